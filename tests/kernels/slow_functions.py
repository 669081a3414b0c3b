"""Functions with slow operations, and what a rewritten one is compared by."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import jaxprs_in_params
from jaxinv_kernels.rewrite import contains_slow, rewrite

NHWC = ("NHWC", "HWIO", "NHWC")
SLOW = ("conv_general_dilated", "reduce_window", "select_and_")


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def slow_primitives(jaxpr):
    found = set()
    for eqn in jaxpr.eqns:
        if eqn.primitive.name.startswith(SLOW):
            found.add(eqn.primitive.name)
        for inner in jaxprs_in_params(eqn.params):
            found |= slow_primitives(inner)
    return found


def orders(loss):
    """Value, gradient, and the gradient of a match of the gradient."""

    def run(params, batch):
        def match(x):
            grads = jax.grad(loss)(params, (x, *batch[1:]))
            leaves = jax.tree.leaves(grads)
            return sum(jnp.sum(jnp.sin(3 * g + i)) for i, g in enumerate(leaves))

        value, grads = jax.value_and_grad(loss)(params, batch)
        return value, grads, jax.grad(match)(batch[0])

    return run


def close(guess, truth):
    assert jax.tree.structure(guess) == jax.tree.structure(truth)
    for a, b in zip(jax.tree.leaves(guess), jax.tree.leaves(truth), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def trace(fn, *args):
    # Each runs once: the time would go to compilation.
    fast = {"xla_backend_optimization_level": 0}
    return jax.jit(fn, compiler_options=fast).trace(*args)


def run(traced, *args):
    return traced.lower().compile()(*args)


def check(loss, *args):
    """The rewritten loss agrees in three orders, and none of them is slow."""
    truth, found = trace(orders(loss), *args), trace(orders(rewrite(loss)), *args)
    assert slow_primitives(truth.jaxpr.jaxpr)
    assert not slow_primitives(found.jaxpr.jaxpr)
    assert not contains_slow(found.jaxpr)
    close(run(found, *args), run(truth, *args))


def conv(x, kernel, **kwargs):
    kwargs = {"dimension_numbers": NHWC, **kwargs}
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", **kwargs)


def pool(x, init=-jnp.inf, reduce=lax.max, window=(1, 2, 2, 1), strides=(1, 2, 2, 1)):
    return lax.reduce_window(x, init, reduce, window, strides, "VALID")


def batch_of(channels=2, size=4):
    """Images and integer labels."""
    return draw(1, 2, size, size, channels), jnp.array([1, 0])


def cross_entropy(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


def block(kernel, x):
    return jnp.tanh(conv(x, kernel))
