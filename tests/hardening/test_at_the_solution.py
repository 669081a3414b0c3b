"""The implicit derivative where the solution is known, and against unrolled steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv import matching, priors, space
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.defenses.noise import gaussian_noise
from jaxinv.defenses.protection import protect
from jaxinv.errors import InputError
from jaxinv.hardening import (
    at_solution,
    from_truth,
    implicit_slope,
    inverse_variance,
    through_steps,
)
from jaxinv.objective import objective
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec, from_function

pytestmark = pytest.mark.usefixtures("compiled_quickly")

A = np.random.default_rng(0).normal(size=(7, 5))


def inner(z, arguments):
    """Ridge regression with one weight per row."""
    left = A @ z - arguments["u"]
    return 0.5 * jnp.sum(jnp.exp(arguments["w"]) * left**2) + 0.05 * jnp.sum(z**2)


def outer(z, arguments):
    return jnp.sum((z - 1) ** 2) + 0.1 * jnp.sum(arguments["u"])


def solution(arguments):
    weight = jnp.diag(jnp.exp(arguments["w"]))
    return jnp.linalg.solve(
        A.T @ weight @ A + 0.1 * jnp.eye(5), A.T @ weight @ arguments["u"]
    )


def test_of_a_weighted_ridge_it_is_the_derivative_of_the_closed_form():
    with jax.enable_x64(True):
        arguments = {"u": jnp.linspace(-1, 2, 7), "w": jnp.linspace(0, 1, 7)}
        found = implicit_slope(inner, outer, solution(arguments), arguments, damping=0)
        truth = jax.grad(lambda a: outer(solution(a), a))(arguments)
        for x, y in zip(*map(jax.tree.leaves, (found.slope, truth)), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)
        assert int(found.status) == 0
        assert float(found.residual) < 1e-3 and float(found.distance) < 1e-12
        # Too few iterations, or a point that is no solution, are told.
        short = implicit_slope(
            inner, outer, solution(arguments), arguments, damping=0, num_iterations=1
        )
        assert int(short.status) == 5 and float(short.residual) > 0.05
        away = implicit_slope(inner, outer, solution(arguments) + 1.0, arguments)
        assert float(away.distance) > 0.1


def test_a_coordinate_that_a_bound_holds_does_not_move():
    with jax.enable_x64(True):
        arguments = {"u": jnp.linspace(-1, 2, 7), "w": jnp.zeros(7)}
        free = jnp.asarray([True, True, False, True, True])

        def bounded(arguments):
            """The ridge with the third coordinate at 0.2."""
            weight = jnp.diag(jnp.exp(arguments["w"]))
            kept = np.flatnonzero(free)
            matrix = A.T @ weight @ A + 0.1 * jnp.eye(5)
            right = A.T @ weight @ arguments["u"] - 0.2 * matrix[:, 2]
            part = jnp.linalg.solve(matrix[kept][:, kept], right[kept])
            return jnp.zeros(5).at[kept].set(part).at[2].set(0.2)

        found = implicit_slope(
            inner, outer, bounded(arguments), arguments, free=free, damping=0
        )
        truth = jax.grad(lambda a: outer(bounded(a), a))(arguments)
        for x, y in zip(*map(jax.tree.leaves, (found.slope, truth)), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)


SPEC = Spec((2, 2, 1), 2)


def regression(params, batch):
    """Its gradient is linear in the inputs: the attack is a ridge regression."""
    return jnp.sum(batch.inputs.reshape(len(batch.inputs), -1) @ params["a"])


TARGET = from_function(regression, SPEC)
RELEASE = gradient(regression, rewritten=False)


def test_at_convergence_it_is_the_derivative_through_the_steps():
    std = {"a": jnp.full((), 0.5)}
    batch = Batch(jnp.arange(4.0).reshape(1, 2, 2, 1) / 4, jnp.zeros(1, int))
    params = {"a": jnp.ones((4, 1))}
    where = space.pixels(SPEC, labels="known", box=False)

    def noisy(std):
        return protect(RELEASE, gaussian_noise(std))

    def aim(std):
        return objective(
            RELEASE,
            matching.squared(inverse_variance(std)),
            priors.weighted((2.0, priors.l2_norm)),
        )

    implicit = at_solution(
        TARGET,
        noisy,
        aim,
        lambda batch: from_truth(where, batch),
        optax.sgd(0.1),
        200,
        restarts=2,
        damping=0.0,
    )
    steps = through_steps(
        TARGET,
        noisy,
        lambda std, batch: gradient_matching(aim(std), where, optax.sgd(0.1), 200),
    )
    key = jax.random.key(3)

    # The two split their keys differently, so the draw is fixed by the closed form:
    # z = u / (1 + s^2 c) per pixel, u = x + s e, c = 2/4 from the mean of the prior.
    def closed(std, draw):
        z = (batch.inputs.ravel() + std * draw) / (1 + std**2 * 2 / 4)
        return jnp.mean((z - batch.inputs.ravel()) ** 2)

    for privacy, splits in ((implicit, 3), (steps, 2)):
        found = jax.jit(privacy)(key, std, params, batch)
        sent = noisy(std)(jax.random.split(key, splits)[0], params, batch)
        draw = (sent["a"].ravel() - batch.inputs.ravel()) / 0.5
        assert int(found.info["status"]) == 0
        value, slope = jax.value_and_grad(closed)(0.5, draw)
        assert float(found.value) == pytest.approx(float(value), rel=1e-3)
        assert float(found.slope["a"]) == pytest.approx(float(slope), rel=5e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"damping": -1.0}, "damping is -1.0; expected 0 or more"),
        ({"num_iterations": 0}, "num_iterations is 0"),
    ],
)
def test_wrong_arguments_are_named(options, words):
    arguments = {"u": jnp.zeros(7), "w": jnp.zeros(7)}
    with pytest.raises(InputError, match=words):
        implicit_slope(inner, outer, jnp.zeros(5), arguments, **options)
