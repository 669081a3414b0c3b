"""Adam against optax's in float64, with the derivatives an attack takes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv.adam import adam


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def x64(request):
    with jax.enable_x64(request.param):
        yield request.param


def trained(optimizer, x):
    """Where three steps end that depend on `x`, one weight having no gradient."""
    weights = {"a": jnp.zeros_like(x), "b": jnp.ones(())}

    def step(carry, scale):
        weights, state = carry
        alive = jnp.asarray([1, 1, 0]) * weights["b"]
        grads = {"a": alive * jnp.sin(scale * x + weights["a"]), "b": x @ x - scale}
        updates, state = optimizer.update(grads, state, weights)
        return (optax.apply_updates(weights, updates), state), None

    start = weights, optimizer.init(weights)
    (weights, _), _ = jax.lax.scan(jax.checkpoint(step), start, jnp.arange(1.0, 4.0))
    return jnp.sum(jnp.sin(weights["a"] + weights["b"]))


def test_it_is_optaxs_to_the_second_derivative(x64):
    x = np.asarray([[0.3, -0.7, 0.2], [1.1, 0.4, -0.5]])
    makes = {
        "value": lambda f: f,
        "reverse": jax.grad,
        "forward": jax.jacfwd,
        "second": jax.hessian,
    }

    def all_of(optimizer):
        def f(x):
            return trained(optimizer, x)

        both = jax.vmap(lambda x: {k: make(f)(x) for k, make in makes.items()})
        return jax.tree.map(np.asarray, jax.jit(both)(jnp.asarray(x)))

    found = all_of(adam(0.05))
    with jax.enable_x64(True):
        expected = all_of(optax.adam(0.05, eps_root=1e-30))
    for name, value in expected.items():
        assert np.abs(value).max() > 1e-2
        error = np.abs(found[name] - value).max() / np.abs(value).max()
        assert error < (1e-10 if x64 else 1e-5), name
