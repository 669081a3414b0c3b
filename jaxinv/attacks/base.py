"""What every attack is: `Attack`, the loop `iterate`, and batched `restarts`.

An attack works on one observation from one start. Batching is outside: `restarts`
turns an attack into the same kind of value that holds many starts, `jax.vmap` over
observations does the rest.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from jaxinv.errors import InputError
from jaxinv.memory import starts_at_once
from jaxinv.observation import Observation


class Status(enum.IntEnum):
    """How a run ended; carried as an int32 array so that it survives vmap."""

    OK = 0
    """Ran to its end with finite numbers."""
    DIVERGED = 1
    """Met a NaN or an infinity; its score is infinite, so it loses."""
    GAVE_UP = 2
    """A closed form found that the observation does not determine the data."""
    INTERRUPTED = 3
    """Stopped by the user; the best so far is returned."""
    DROPPED = 4
    """One of many starts, dropped on the way for a score that lagged behind."""
    UNDERDETERMINED = 5
    """The guess is one of many that the observation fits as well, by its own evidence:
    too few constraints, or too few digits in them."""


@flax.struct.dataclass
class Reconstruction:
    """What an attack believes the client's data to be."""

    batch: Any
    """The guess, the batch of the target's loss."""
    score: jax.Array
    """`[]`, the attacker's own evidence, lower is better. Never uses the truth."""
    status: jax.Array
    """`[]` int32, a `Status`."""
    stats: dict[str, Any] = flax.struct.field(default_factory=dict)
    """Diagnostics. After `iterate`: "trace", one entry of each info per record."""


AttackFn = Callable[[jax.Array, Observation], Reconstruction]
"""`(key, observation) -> Reconstruction`; every attack ends here."""


class Attack(NamedTuple):
    """An iterative attack. Functions are pure; none is jitted."""

    init: Callable[[jax.Array, Observation], Any]
    """`(key, observation) -> state`; the key is consumed."""
    step: Callable[[Observation, Any], tuple[Any, dict[str, jax.Array]]]
    """`(observation, state) -> (state, info)`; info holds scalars worth plotting, the
    attacker's "score" among them. A state that keeps the best point beyond a NaN says
    so in a field `diverged`, `[]` bool; a run counts those starts."""
    finish: Callable[[Observation, Any], Reconstruction]
    """`(observation, state) -> Reconstruction`; may be called at any time."""
    num_steps: int
    """How many steps its schedule was made for."""
    certify: Callable[[Observation, Reconstruction], Reconstruction] | None = None
    """`(observation, found) -> found`: what is worth saying of the winner alone, such
    as how sure it is; for what costs too much for every start."""


def closed_form(attack_fn: AttackFn) -> Attack:
    """An attack without a loop as an `Attack` of no steps."""

    def init(key: jax.Array, observation: Observation) -> Reconstruction:
        return attack_fn(key, observation)

    def step(observation: Observation, state: Reconstruction):
        return state, {"score": state.score}

    def finish(observation: Observation, state: Reconstruction) -> Reconstruction:
        return state

    return Attack(init, step, finish, 0)


def advance(attack: Attack, num_steps: int) -> Callable:
    """`(observation, state) -> (state, info)` over several steps, info of the last.

    One `lax.scan`: nothing touches the host in between.
    """

    def run(observation: Observation, state: Any):
        def body(state, _):
            state, info = attack.step(observation, state)
            return state, info

        state, infos = jax.lax.scan(body, state, length=num_steps)
        return state, jax.tree.map(lambda leaf: leaf[-1], infos)

    return run


def iterate(
    attack: Attack, num_steps: int | None = None, *, num_records: int = 100
) -> AttackFn:
    """The attack as one pure function, for jit, vmap and differentiation.

    Args:
      attack: what to iterate.
      num_steps: steps to take; None takes as many as the attack was made for.
      num_records: the trace keeps about this many evenly spaced entries (and always
        the last), so its size does not grow with the number of steps.

    Returns:
      An AttackFn. `stats["trace"]` holds each info stacked as `[records, ...]`, and
      `stats["trace_steps"]` `[records]` the number of steps behind each.
    """
    total = attack.num_steps if num_steps is None else num_steps
    if total < 0:
        raise InputError(f"num_steps is {total}; expected 0 or more")
    if num_records < 1:
        raise InputError(f"num_records is {num_records}; expected 1 or more")
    chunk = max(1, -(-total // num_records))
    whole, rest = divmod(total, chunk)

    def attack_fn(key: jax.Array, observation: Observation) -> Reconstruction:
        state = attack.init(key, observation)
        steps = [chunk * (i + 1) for i in range(whole)] + ([total] if rest else [])
        traces = []
        if whole:
            run = advance(attack, chunk)
            state, trace = jax.lax.scan(
                lambda s, _: run(observation, s), state, length=whole
            )
            traces.append(trace)
        if rest:
            state, info = advance(attack, rest)(observation, state)
            traces.append(jax.tree.map(lambda leaf: leaf[None], info))
        found = attack.finish(observation, state)
        if attack.certify is not None:
            found = attack.certify(observation, found)
        if not traces:
            return found
        trace = jax.tree.map(lambda *parts: jnp.concatenate(parts), *traces)
        stats = {**found.stats, "trace": trace, "trace_steps": jnp.asarray(steps)}
        return dataclasses.replace(found, stats=stats)

    return attack_fn


def restarts(
    attack: Attack,
    num: int,
    *,
    batch_size: int | None = None,
    keep: int = 1,
) -> Attack:
    """Many independent starts in one attack; the best by the attacker's score wins.

    All starts advance together, `batch_size` of them under vmap at a time, so memory
    is that of one batch plus the states. A start that diverges scores infinity and
    keeps its status; the others go on.

    Args:
      attack: what to start often.
      num: how many starts.
      batch_size: starts under one vmap; None takes as many as the device likes
        (`jaxinv.memory`).
      keep: how many reconstructions to keep beside the winner, best first, in
        `stats["kept"]` (leaves `[keep, ...]`).

    Returns:
      An attack whose winner's stats are joined by "scores" `[num]` and "statuses"
      `[num]`, in the order of the starts.
    """
    if num < 1:
        raise InputError(f"num is {num}; expected at least one restart")
    if not 1 <= keep <= num:
        raise InputError(f"keep is {keep}; expected 1 to the {num} restarts")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; expected 1 or more")

    def at_once(observation: Observation, state: Any) -> int:
        if batch_size is not None:
            return batch_size
        closed = jax.make_jaxpr(attack.step)(observation, state)
        return starts_at_once(closed, len(jax.tree.leaves(state)), num)

    def over_starts(f: Callable, xs: Any, size: int) -> Any:
        if size >= num:
            return jax.vmap(f)(xs)
        return jax.lax.map(f, xs, batch_size=size if size > 1 else None)

    def init(key: jax.Array, observation: Observation) -> Any:
        keys = jax.random.split(key, num)
        one = jax.eval_shape(attack.init, key, observation)
        size = at_once(observation, one)
        return over_starts(lambda k: attack.init(k, observation), keys, size)

    def step(observation: Observation, state: Any):
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), state)
        size = at_once(observation, one)
        state, info = over_starts(lambda s: attack.step(observation, s), state, size)
        # The best start so far speaks for all; every start's number is at the end.
        best = jnp.argmin(_losing_nan(info["score"]))
        return state, jax.tree.map(lambda leaf: leaf[best], info)

    def finish(observation: Observation, state: Any) -> Reconstruction:
        # Once for each start: what counts is memory, not time.
        size = batch_size or 1
        every = over_starts(lambda s: attack.finish(observation, s), state, size)
        scores = _losing_nan(every.score)
        order = jnp.argsort(scores)
        kept = jax.tree.map(lambda leaf: leaf[order[:keep]], every)
        winner = jax.tree.map(lambda leaf: leaf[0], kept)
        stats = {**winner.stats, "scores": scores, "statuses": every.status}
        stats["kept"] = kept.replace(stats={"start": order[:keep]})
        return winner.replace(score=scores[order[0]], stats=stats)

    return Attack(init, step, finish, attack.num_steps, attack.certify)


def _losing_nan(scores: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(scores), jnp.inf, scores)
