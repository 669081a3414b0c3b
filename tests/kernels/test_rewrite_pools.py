"""Pools of every kind are rewritten."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jaxinv_kernels.rewrite import contains_slow, operations, rewrite
from slow_functions import batch_of, check, close, draw, pool, slow_primitives


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


POOLS = {
    "channels_first": lambda x: pool(x, window=(1, 1, 2, 2), strides=(1, 1, 2, 2)),
    "batch_and_channels": lambda x: pool(x, window=(2, 1, 1, 2), strides=(1, 1, 1, 1)),
    "min": lambda x: pool(x, jnp.inf, lax.min),
    "sum": lambda x: pool(x, 0.0, lax.add),
    "strides_alone": lambda x: pool(x, window=(1, 1, 1, 1)),
    "nothing": lambda x: pool(x, 0.0, lax.add, (1,) * 4, (1,) * 4),
    "global": lambda x: pool(x, 0.0, lax.add, (1, 4, 4, 1), (1, 1, 1, 1)),
    "dilated": lambda x: lax.reduce_window(
        *(x, 0.0, lax.add, (1, 2, 3, 1), (1, 2, 1, 1)),
        [(0, 0), (1, 0), (2, 1), (0, 0)],
        base_dilation=(1, 2, 1, 1),
        window_dilation=(1, 1, 2, 1),
    ),
    "dilated_max": lambda x: lax.reduce_window(
        *(x, -jnp.inf, lax.max, (1, 2, 3, 1), (1, 2, 1, 1)),
        [(0, 0), (1, 0), (2, 1), (0, 0)],
        window_dilation=(1, 1, 2, 1),
    ),
    "base_dilated_max": lambda x: lax.reduce_window(
        *(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"),
        base_dilation=(1, 2, 1, 2),
    ),
}


@pytest.mark.parametrize("kind", POOLS)
def test_pools(kind):
    # JAX itself refuses to differentiate a maximum with dilation.
    if kind in ("dilated_max", "base_dilated_max"):
        x = batch_of()[0]
        assert rewrite(POOLS[kind])(x).size > 0
        close(rewrite(POOLS[kind])(x), POOLS[kind](x))
        return

    def loss(scale, batch):
        return jnp.sum(jnp.sin(POOLS[kind](batch[0] * scale)) ** 2)

    check(loss, draw(0, 2), batch_of()[:1])


@pytest.mark.parametrize("init", [-jnp.inf, 0.25])
@pytest.mark.parametrize("op", [jnp.maximum, jnp.minimum, lax.add])
def test_reduce_window_with_a_body(op, init):
    def fn(x, init):
        return jax.jit(lambda x, init: pool(x, init, op))(x, init)

    args = batch_of()[0], jnp.asarray(init)
    assert slow_primitives(jax.make_jaxpr(fn)(*args).jaxpr) == {"reduce_window"}
    assert not slow_primitives(jax.make_jaxpr(rewrite(fn))(*args).jaxpr)
    close(rewrite(fn)(*args), fn(*args))


def test_what_has_no_fast_form_stays(monkeypatch):
    x = batch_of()[0]
    whole = (10 * x).astype(int)
    for fn in (
        lambda: pool(whole, np.iinfo(whole.dtype).min),
        lambda: pool(x, 1.0, lax.mul),
        lambda: pool(x, 0.5, lambda a, b: jnp.sin(a + b)),
    ):
        assert not contains_slow(jax.make_jaxpr(fn)())
        close(rewrite(fn)(), fn())
    monkeypatch.setattr(operations, "MOST_SLICES", 3)
    assert not contains_slow(jax.make_jaxpr(pool)(x))
