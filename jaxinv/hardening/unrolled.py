"""Unrolled: the derivative of what an attack finds, through the attack's own steps.

Reverse mode through the steps of an optimiser: Maclaurin, Duvenaud and Adams, ICML
2015, arXiv 1502.03492. Only the last steps: Shaban, Cheng, Hatch and Boots, AISTATS
2019, arXiv 1810.10667. Segments of the square root of the steps, of which only the
ends are kept: Chen et al., arXiv 1604.06174.

The attack stays as it is. Where it keeps its best point, and where the best of several
starts wins, the derivative is that of the point that was chosen; by its own score, as
everywhere.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from jaxinv.attacks.base import Attack, Status
from jaxinv.errors import InputError
from jaxinv.observation import Observation
from jaxinv.options import check_choice, check_positive

REMAT = ("none", "step", "segments")
"""What is kept for the way back: everything; the state after every step; the state
after every segment of about the square root of the steps."""


class Unrolled(NamedTuple):
    """What an attack found, differentiable in the observation."""

    batch: Any
    """The guesses, leaves `[R, ...]`: the winner alone (R is 1) where the choice is
    hard, every start where it is soft."""
    weights: jax.Array
    """`[R]`, the attacker's choice among them, of sum 1; 0 for one that diverged."""
    scores: jax.Array
    """`[restarts]`, the attacker's own, infinite for one that diverged."""
    status: jax.Array
    """`[]` int32, a `Status`: DIVERGED where every start did."""


UnrolledFn = Callable[[jax.Array, Observation], Unrolled]
"""`(key, observation) -> Unrolled`."""


def unrolled(
    attack: Attack,
    *,
    num_steps: int | None = None,
    last: int | None = None,
    remat: str = "segments",
    restarts: int = 1,
    temperature: float = 0.0,
    at_once: int = 1,
) -> UnrolledFn:
    """The attack as a function with a derivative, in bounded memory.

    Args:
      attack: from one start. What it closes over is differentiated too. Its steps have
        to be smooth almost everywhere: momentum, Adam (with `eps_root` above 0, for
        its root has no slope at 0), any match and prior that have a gradient.
      num_steps: K; None takes as many as the attack was made for.
      last: T, through how many of the last steps the derivative goes; what came before
        counts as constant. None is all.
      remat: one of `REMAT`. "none" runs forward once; "step" twice, "segments" three
        times, with memory of K states and of the square root of that.
      restarts: starts, of which the attacker chooses.
      temperature: 0 chooses the best score: all starts run without derivative and the
        winner once more with it. Above 0 the weights are the softmax of minus the
        score over the temperature, and the derivative goes through the choice as well.
      at_once: starts under one vmap.

    Raises:
      InputError: an argument is out of range; at trace, what the attack finds has no
        derivative by the update, for it takes the sign of its gradient.
    """
    total = attack.num_steps if num_steps is None else num_steps
    check_positive("num_steps", total)
    tail = total if last is None else last
    check_positive("last", tail)
    if tail > total:
        raise InputError(f"last is {tail}; expected at most the {total} steps")
    check_choice("remat", remat, REMAT)
    check_positive("restarts", restarts)
    check_positive("at_once", at_once)
    if isinstance(temperature, (int, float)) and not temperature >= 0:
        raise InputError(f"temperature is {temperature}; expected 0 or more")
    hard = isinstance(temperature, (int, float)) and temperature == 0

    def one_start(key: jax.Array, observation: Observation):
        state = attack.init(key, observation)
        step, consts = jax.closure_convert(
            lambda o, s: attack.step(o, s)[0], observation, state
        )
        if total > tail:
            before, constants = jax.lax.stop_gradient((observation, consts))

            def advance(state: Any, _: None):
                return step(before, state, *constants), None

            state = jax.lax.scan(advance, state, length=total - tail)[0]
            state = jax.lax.stop_gradient(state)
        state = _advance(lambda s: step(observation, s, *consts), state, tail, remat)
        found = attack.finish(observation, state)
        score = jnp.where(jnp.isnan(found.score), jnp.inf, found.score)
        return found.batch, score

    def run(key: jax.Array, observation: Observation) -> Unrolled:
        _check_derivative(attack, key, observation)
        keys = jax.random.split(key, restarts)
        size = at_once if at_once > 1 else None
        if not hard:
            # One start after the other on the way back as well.
            start = jax.checkpoint(lambda k: one_start(k, observation))
            batch, scores = jax.lax.map(start, keys, batch_size=size)
            weights = _soft_choice(scores, temperature)
            return Unrolled(batch, weights, scores, _status(scores))
        chosen = keys[0]
        scores = None
        if restarts > 1:
            alone, consts = jax.closure_convert(one_start, keys[0], observation)
            still, constants = jax.lax.stop_gradient((observation, consts))
            scores = jax.lax.map(
                lambda k: alone(k, still, *constants)[1], keys, batch_size=size
            )
            chosen = keys[jnp.argmin(scores)]
        batch, score = one_start(chosen, observation)
        scores = score[None] if scores is None else scores
        weights = jnp.where(jnp.isfinite(score), 1.0, 0.0)[None].astype(score.dtype)
        batch = jax.tree.map(lambda leaf: leaf[None], batch)
        return Unrolled(batch, weights, scores, _status(scores))

    return run


def _advance(step: Callable[[Any], Any], state: Any, num: int, remat: str) -> Any:
    """Several steps, with what is kept on the way as `REMAT` says."""

    def body(state: Any, _: None):
        return step(state), None

    if remat != "none":
        # Within a scan nothing can be taken for the same as on the way there.
        body = jax.checkpoint(body, prevent_cse=False)

    def several(state: Any, num: int) -> Any:
        return jax.lax.scan(body, state, length=num)[0]

    if remat != "segments":
        return several(state, num)
    length = math.isqrt(num)
    segments, rest = divmod(num, length)

    def segment(state: Any, _: None):
        return several(state, length), None

    segment = jax.checkpoint(segment, prevent_cse=False)
    state = jax.lax.scan(segment, state, length=segments)[0]
    return several(state, rest) if rest else state


def _soft_choice(scores: jax.Array, temperature: float | jax.Array) -> jax.Array:
    """Softmax of minus the scores; what diverged has no weight and no slope."""
    fine = jnp.isfinite(scores)
    logits = jnp.where(fine, -jnp.where(fine, scores, 0) / temperature, -jnp.inf)
    shifted = jnp.where(fine, logits - jax.lax.stop_gradient(logits.max()), 0)
    exps = jnp.where(fine, jnp.exp(shifted), 0)
    total = exps.sum()
    return exps / jnp.where(total > 0, total, 1)


def _status(scores: jax.Array) -> jax.Array:
    fine = jnp.isfinite(scores).any()
    return jnp.where(fine, Status.OK, Status.DIVERGED).astype(jnp.int32)


def _check_derivative(attack: Attack, key: jax.Array, observation: Observation) -> None:
    """Refuses an attack through whose steps no derivative passes at all.

    Traced, not run: two steps, for the second is the first to look at a point that the
    update has moved. A sign has the derivative 0 by its rule, not by its numbers, so
    that what is pulled back does not read what is put in.
    """

    def found(update: Any) -> list[jax.Array]:
        seen = dataclasses.replace(observation, update=update)
        state = attack.init(key, seen)
        for _ in range(2):
            state, _ = attack.step(seen, state)
        leaves = jax.tree.leaves(attack.finish(seen, state).batch)
        return [x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]

    def pulled(one: jax.Array, update: Any) -> list[jax.Array]:
        leaves, pull = jax.vjp(found, update)
        cotangents = [jnp.full_like(x, 1) * one.astype(x.dtype) for x in leaves]
        return jax.tree.leaves(pull(cotangents)[0])

    closed = jax.make_jaxpr(pulled)(jnp.ones(()), observation.update)
    outs = [True] * len(closed.jaxpr.outvars)
    _, used = partial_eval.dce_jaxpr(closed.jaxpr, outs, instantiate=False)
    if not used[0]:
        raise InputError(
            "attack finds a batch that has no derivative by the update, as one whose "
            "optimiser takes the sign of the gradient; expected smooth steps, such as "
            "signed=None, or signed='soft'"
        )
