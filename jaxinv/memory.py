"""How many starts fit on a device at once, read from the traced computation."""

from __future__ import annotations

from typing import Any

import jax
from jax.interpreters import partial_eval

CPU_BYTES = 12 * 2**20
"""Of the starts advanced together on a CPU: a third of a common last cache, where
convolutions (best at 8 MiB, a quarter slower at 32) and dense layers (best at 16, whose
shared weights are read once for all starts) are both near their best."""

ACCELERATOR_SHARE = 0.6
"""Of an accelerator's memory, whatever of it is free at the moment: a sweep that goes
on must batch as it did before, to come to the same digits. The rest is for what the
estimate misses, and for what else is held."""

ACCELERATOR_BYTES = 4 * 2**30
"""Where an accelerator does not say how much it has."""


STATES_BYTES = 2 * 2**30
"""Of all states that a CPU holds between the parts of a run."""


def live_bytes(closed: Any, moving: int) -> int:
    """The most bytes that are alive at once while a jaxpr runs.

    Counts values that depend on the last `moving` inputs, a start's own; the others,
    such as the weights, are shared by all starts. An upper estimate: XLA fuses
    elementwise operations, whose values are then never in memory.

    Args:
      closed: what `jax.make_jaxpr` returns.
      moving: how many of the inputs, the last ones, belong to a start.
    """
    # What nobody reads (a pullback by the weights, say) XLA drops, and so does this.
    outs = [True] * len(closed.jaxpr.outvars)
    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, outs, instantiate=True)
    return _peak(jaxpr, set(jaxpr.invars[len(jaxpr.invars) - moving :]))


def budget() -> int:
    """Bytes that the starts advanced together may take on the default device."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return CPU_BYTES
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return ACCELERATOR_BYTES
    return int(ACCELERATOR_SHARE * stats["bytes_limit"])


def starts_at_once(closed: Any, moving: int, num: int) -> int:
    """Starts to advance under one vmap, 1 to `num`, evenly spread over the batches.

    Args:
      closed: the jaxpr of one step of one start.
      moving: how many of its inputs, the last ones, belong to the start.
      num: starts in all.
    """
    most = max(1, budget() // max(1, live_bytes(closed, moving)))
    batches = -(-num // min(most, num))
    return -(-num // batches)


def states_at_once(state_bytes: int) -> int:
    """Starts whose states may be held at once, advancing or not."""
    on_cpu = jax.devices()[0].platform == "cpu"
    return (STATES_BYTES if on_cpu else budget() // 4) // max(1, state_bytes)


def _peak(jaxpr: Any, moving: set[Any]) -> int:
    last = {}
    for i, eqn in enumerate(jaxpr.eqns):
        last |= {v: i for v in eqn.invars if not hasattr(v, "val")}
    last |= {v: len(jaxpr.eqns) for v in jaxpr.outvars if not hasattr(v, "val")}
    moving = set(moving)
    alive = dict.fromkeys(moving & last.keys())
    most = now = sum(_bytes(v) for v in alive)
    for i, eqn in enumerate(jaxpr.eqns):
        inputs = [v for v in eqn.invars if not hasattr(v, "val")]
        if any(v in moving for v in inputs):
            moving.update(eqn.outvars)
            out = sum(_bytes(v) for v in eqn.outvars if v in last)
            most = max(most, now + out + _inside(eqn, moving))
            now += out
            alive |= dict.fromkeys(v for v in eqn.outvars if v in last)
        for v in set(inputs):
            if v in alive and last[v] == i:
                now -= _bytes(v)
                del alive[v]
    return most


def _inside(eqn: Any, moving: set[Any]) -> int:
    """The most that the equation's own jaxprs (a loop's body, a branch) add."""
    most = 0
    for value in eqn.params.values():
        for inner in value if isinstance(value, (tuple, list)) else [value]:
            inner = getattr(inner, "jaxpr", inner)
            if not hasattr(inner, "eqns"):
                continue
            # A branch's index comes before what its jaxpr takes.
            outer = eqn.invars[len(eqn.invars) - len(inner.invars) :]
            pairs = zip(inner.invars, outer, strict=False)
            inputs = {v for v, o in pairs if not hasattr(o, "val") and o in moving}
            own = sum(_bytes(v) for v in inputs)
            most = max(most, _peak(inner, inputs or set(inner.invars)) - own)
    return most


def _bytes(var: Any) -> int:
    aval = var.aval
    size = getattr(aval, "size", 0)
    return int(size) * getattr(getattr(aval, "dtype", None), "itemsize", 0)
