"""Pooling by windows agrees with XLA's in value and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxinv_kernels.pool import avg_pool, max_pool, reference

# Inputs, window, strides, padding.
POOLS = [
    ((2, 7, 8, 3), (3, 3), (3, 3), "VALID"),
    ((1, 8, 7, 2), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((1, 5, 6, 2), (2, 3), (1, 2), "SAME"),
]


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def check(kind, shape, window, strides, padding):
    """Value, gradient, and the gradient of the gradient along a direction."""
    ours = {"max_pool": max_pool, "avg_pool": avg_pool}[kind]
    truth = getattr(reference, kind)
    rng = np.random.default_rng(0)
    inputs, direction = (jnp.asarray(rng.standard_normal(shape)) for _ in range(2))

    def orders(fn):
        def scalar(x):
            return jnp.sum(jnp.sin(fn(x, window, strides, padding)))

        def along(x):
            return jnp.vdot(jax.grad(scalar)(x), direction)

        return jax.jit(
            lambda x: (
                fn(x, window, strides, padding),
                jax.grad(scalar)(x),
                jax.grad(along)(x),
            )
        )(inputs)

    for found, expected in zip(orders(ours), orders(truth), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["max_pool", "avg_pool"])
@pytest.mark.parametrize("shape, window, strides, padding", POOLS)
def test_pool_agrees_in_value_and_two_derivatives(
    shape, window, strides, padding, kind
):
    check(kind, shape, window, strides, padding)


@st.composite
def pools(draw):
    """A pool of which no window lies in the padding alone."""
    ndim = draw(st.integers(1, 3))
    window = tuple(draw(st.integers(1, 3)) for _ in range(ndim))
    sizes = [draw(st.integers(w, 6)) for w in window]
    strides = tuple(draw(st.integers(1, 3)) for _ in range(ndim))
    pads = [(draw(st.integers(0, w - 1)), draw(st.integers(0, w - 1))) for w in window]
    padding = draw(st.sampled_from(["SAME", "VALID", pads]))
    kind = draw(st.sampled_from(["max_pool", "avg_pool"]))
    return kind, (2, *sizes, 2), window, strides, padding


@given(pools())
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_drawn_pools_agree_in_value_and_two_derivatives(case):
    with jax.enable_x64(True):
        check(*case)


def test_ties_go_to_the_first_entry():
    grad = jax.grad(lambda x: max_pool(x, (2, 2)).sum())(jnp.zeros((1, 2, 2, 1)))
    assert grad.ravel().tolist() == [1, 0, 0, 0]
