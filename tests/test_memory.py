"""The estimate of a start's memory, and what is made of it."""

import jax
import jax.numpy as jnp
import pytest

from jaxinv import memory

KB = 1024  # bytes of 256 float32


def estimate(f, *args, moving=1):
    return memory.live_bytes(jax.make_jaxpr(f)(*args), moving)


ROW, COLUMN = jnp.ones((1, 256)), jnp.ones((256, 1))


def test_what_is_alive_at_once_is_counted():
    # The input, the square and its sum with the input; then both are gone.
    assert estimate(lambda x: x * x + x, ROW) == 3 * KB
    assert estimate(lambda x: jnp.sin(jnp.sin(jnp.sin(x))), ROW) == 2 * KB
    assert estimate(lambda x: (x.T @ x).sum(), ROW) == 256 * KB + 2 * KB


def test_what_no_start_owns_is_shared_and_what_nobody_reads_is_dropped():
    weights = jnp.ones((256, 256))
    assert estimate(lambda w, x: x @ (w + w), weights, ROW) == 2 * KB

    def wasteful(x):
        jnp.outer(x[0], x[0])
        return x + 1

    assert estimate(wasteful, ROW) == 2 * KB


def test_loops_and_branches_count_inside():
    def loop(x):
        return jax.lax.scan(lambda c, _: ((c.T @ c).sum(0)[None], None), x, length=3)

    assert estimate(loop, ROW) >= 256 * KB

    def branch(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: (x.T @ x).sum(0), lambda x: x[0], x)

    assert estimate(branch, ROW) >= 256 * KB
    assert estimate(jax.jit(lambda x: (x.T @ x).sum()), ROW) >= 256 * KB


@pytest.mark.parametrize(
    ("budget", "num", "expected"),
    [(3, 1, 1), (3, 10, 1), (12, 10, 4), (30, 10, 10), (1000, 10, 10), (0, 10, 1)],
)
def test_starts_are_spread_evenly_over_as_few_batches_as_fit(
    monkeypatch, budget, num, expected
):
    monkeypatch.setattr(memory, "budget", lambda: budget * KB)
    closed = jax.make_jaxpr(lambda x: x * x + x)(ROW)
    assert memory.starts_at_once(closed, 1, num) == expected


def test_an_accelerator_is_asked_what_it_has(monkeypatch):
    class Device:
        platform = "gpu"

        def memory_stats(self):
            return {"bytes_limit": 1000, "bytes_in_use": 500}

    monkeypatch.setattr(jax, "devices", lambda: [Device()])
    assert memory.budget() == 600
    assert memory.states_at_once(3) == 50
    monkeypatch.setattr(Device, "memory_stats", lambda self: None)
    assert memory.budget() == memory.ACCELERATOR_BYTES
