"""The posterior's privacy against dense linear algebra, in its mean and its slope."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.errors import InputError
from jaxinv.hardening import to_first_order
from jaxinv.target import Batch, Spec, cross_entropy, from_function

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SPEC = Spec((2, 3, 1), 3)
SHAPES = {"a": (6, 5), "b": (5, 3)}


def loss(params, batch):
    x = batch.inputs.reshape(len(batch.inputs), -1)
    return cross_entropy(jnp.tanh(x @ params["a"]) @ params["b"], batch.labels)


TARGET = from_function(loss, SPEC)


def problem():
    keys = jax.random.split(jax.random.key(0), 2)
    params = {
        name: jax.random.normal(key, shape, jnp.float64)
        for key, (name, shape) in zip(keys, SHAPES.items(), strict=True)
    }
    inputs = jax.random.normal(jax.random.key(2), (1, 2, 3, 1), jnp.float64)
    return params, Batch(inputs, jnp.ones(1, int))


def trace(std, params, batch, precision):
    """Mean squared error of the Gaussian posterior: the mean eigenvalue of M^-1."""

    def update(x):
        return jax.grad(loss)(params, Batch(x.reshape(1, 2, 3, 1), batch.labels))

    grid = jnp.eye(6).reshape(6, 2, 3)
    rows = [jnp.diff(grid, axis=axis).reshape(6, -1) for axis in (1, 2)]
    matrix = precision * jnp.eye(6) + 3.0 * sum(r @ r.T for r in rows)
    for name, part in jax.jacobian(update)(batch.inputs.ravel()).items():
        flat = part.reshape(-1, 6)
        matrix += flat.T @ flat / std[name] ** 2
    return jnp.trace(jnp.linalg.inv(matrix)) / 6


def test_its_mean_and_mean_slope_are_those_of_the_posterior_covariance():
    with jax.enable_x64(True):
        params, batch = problem()
        std = {"a": jnp.asarray(0.3), "b": jnp.asarray(0.2)}
        privacy = to_first_order(TARGET, precision=2.0, smoothness=3.0)
        keys = jax.random.split(jax.random.key(5), 1500)
        found = jax.jit(jax.vmap(lambda k: privacy(k, std, params, batch)))(keys)
        value, slope = jax.value_and_grad(trace)(std, params, batch, 2.0)
        assert float(found.value.mean()) == pytest.approx(float(value), rel=0.08)
        for name in std:
            mean = float(found.slope[name].mean())
            assert mean == pytest.approx(float(slope[name]), rel=0.15)
            assert mean > 0  # more noise is never less private
        assert (np.asarray(found.info["status"]) == 0).all()


def test_too_few_iterations_are_a_status_and_wrong_arguments_are_named():
    with jax.enable_x64(True):
        params, batch = problem()
        std = {"a": jnp.asarray(1e-3), "b": jnp.asarray(0.2)}
        short = to_first_order(TARGET, num_iterations=1)
        found = jax.jit(short)(jax.random.key(0), std, params, batch)
        assert int(found.info["status"]) == 5
        assert float(found.info["residual"]) > 0.05
    with pytest.raises(InputError, match="precision is -1"):
        to_first_order(TARGET, precision=-1)
    with pytest.raises(InputError, match="num_iterations is 0"):
        to_first_order(TARGET, num_iterations=0)
