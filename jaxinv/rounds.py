"""Several rounds of one client: observations stacked, unknowns that differ by round.

The secret is one for all rounds; what the server sent differs, and so does what the
client keeps to itself and trains, such as a user's embedding. Source of the idea that
several rounds determine what one does not: MGradInv (Deng et al. 2025), TGIAs-RO
(arXiv 2306.07883).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.errors import InputError
from jaxinv.observation import Observation, observe
from jaxinv.target import Params


@flax.struct.dataclass
class PerRound:
    """Part of a candidate that has a value of its own in each round."""

    value: Any
    """Leaves `[rounds, ...]`."""


def _is_per_round(part: Any) -> bool:
    return isinstance(part, PerRound)


def in_round(candidate: Any, index: int) -> Any:
    """The candidate as it was in one round, for the release."""
    return jax.tree.map(
        lambda part: (
            jax.tree.map(lambda x: x[index], part.value)
            if _is_per_round(part)
            else part
        ),
        candidate,
        is_leaf=_is_per_round,
    )


def round_axes(candidate: Any) -> Any:
    """`in_axes` of a candidate whose `PerRound` parts are mapped over."""
    return jax.tree.map(
        lambda part: 0 if _is_per_round(part) else None,
        candidate,
        is_leaf=_is_per_round,
    )


def unwrapped(candidate: Any) -> Any:
    """The candidate with the values of its `PerRound` parts in their places."""
    return jax.tree.map(
        lambda part: part.value if _is_per_round(part) else part,
        candidate,
        is_leaf=_is_per_round,
    )


def round_weights(observation: Observation) -> jax.Array:
    """`[rounds]`, how much each counts; they sum to 1."""
    if observation.weights is None:
        return jnp.full(observation.rounds, 1 / observation.rounds)
    total = observation.weights.sum()
    return observation.weights / jnp.where(total > 0, total, 1)


def observe_rounds(
    params: Sequence[Params],
    updates: Sequence[Any],
    *,
    weights: Sequence[float] | None = None,
    **granted: Any,
) -> Observation:
    """An observation of several rounds of the same client, checked.

    Args:
      params: what the server sent in each round.
      updates: what came back in each; None for a round that is missing.
      weights: how much each round counts, at least 0; None counts all alike.
      **granted: the rest of what `jaxinv.observe` takes, of the secret they share.

    Raises:
      InputError: no round, rounds of different structure, a round twice, an update of
        zeros (it says nothing), weights out of range, or what `observe` refuses.
    """
    params, updates = list(params), list(updates)
    if not params or len(params) != len(updates):
        raise InputError(
            f"updates has {len(updates)} rounds and params {len(params)}; expected one "
            "update for each, and at least one"
        )
    present = [update is not None for update in updates]
    if not any(present):
        raise InputError("updates holds None alone; expected at least one update")
    seen = []
    for index, (sent, update) in enumerate(zip(params, updates, strict=True)):
        try:
            if update is None:
                continue
            seen.append(observe(sent, update, **granted))
        except InputError as error:
            raise type(error)(f"round {index}: {error}") from None
        if not any(np.any(np.asarray(x)) for x in jax.tree.leaves(update)):
            raise InputError(
                f"updates[{index}] is zero everywhere and says nothing of the data; "
                "give None for a round without an update"
            )
        _check_round(seen, params, index)
    like = seen[0]
    rest = iter(seen)
    empty = jax.tree.map(jnp.zeros_like, like.update)
    rounds = []
    for sent, there in zip(params, present, strict=True):
        found = next(rest) if there else None
        held = jax.tree.map(lambda x: jnp.asarray(x)[None], sent)
        rounds.append((held, found.update if found else empty))

    def stacked(*leaves: jax.Array) -> jax.Array:
        return jnp.concatenate(leaves)

    try:
        all_params, update = jax.tree.map(stacked, *rounds)
    except (TypeError, ValueError):
        raise InputError("params differ in structure from round to round") from None
    return like.replace(
        params=all_params, update=update, weights=_checked(weights, present)
    )


def _check_round(seen: list[Observation], params: list[Params], index: int) -> None:
    last = seen[-1]
    shapes = [jax.tree.map(jnp.shape, (s.params, s.update)) for s in (seen[0], last)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"round {index} differs in structure or shapes from the first; expected "
            "rounds of one model and one secret"
        )
    for earlier in seen[:-1]:
        old = jax.tree.leaves((earlier.params, earlier.update))
        new = jax.tree.leaves((last.params, last.update))
        if all(np.array_equal(a, b) for a, b in zip(old, new, strict=True)):
            raise InputError(
                f"round {index} repeats an earlier one; expected distinct rounds, for "
                "a copy constrains nothing"
            )


def _checked(weights: Sequence[float] | None, present: list[bool]) -> jax.Array | None:
    if weights is None:
        return None if all(present) else jnp.asarray(present, jnp.result_type(float))
    values = np.asarray(weights, float)
    if values.shape != (len(present),):
        raise InputError(
            f"weights has shape {values.shape}; expected one for each of the "
            f"{len(present)} rounds"
        )
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise InputError(
            f"weights is {values.tolist()}; expected finite numbers of 0 or more, one "
            "of them positive"
        )
    values = values * present
    if not values.any():
        raise InputError("weights is positive only in rounds without an update")
    return jnp.asarray(values)
