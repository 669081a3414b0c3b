"""How far off recovered ratings may be, by the attack's own evidence.

Ours. Around the solution the updates' differences are linear in the embeddings, and so
are the ratings. What is left of the updates, or the rounding of the client's own
arithmetic where that is more, is taken for noise alike in all entries; the least
squares error that it causes is what to expect (Gauss). A direction of the embeddings
along which nothing changes but the ratings is bounded by the embeddings' size alone:
then the rounds do not determine the ratings, however well they match.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxinv.attacks.base import Status
from jaxinv.attacks.rating_fit import Fit, match_lengths
from jaxinv.models.recommenders import RatingScale

_AT_ONCE = 16
"""Directions under one vmap."""
_WHOLE = 8
"""A Jacobian of at most this many times the rows it needs is taken whole."""


def rating_error(
    fitted: Callable[[jax.Array], Fit],
    point: jax.Array,
    score: jax.Array,
    entries: jax.Array,
    rated: jax.Array,
    *,
    searched: bool = True,
) -> jax.Array:
    """`[]`, the expected root mean square error of the ratings, in a profile's units.

    Args:
      fitted: `(point) -> Fit`, differentiable.
      point: `[...]`, the solution.
      score: `[]`, its match.
      entries: `[]`, numbers in the updates that the fit is held against.
      rated: `[N]`, 1 for an item that counts, else 0.
      searched: whether the point was; a given one has no error of its own.
    """
    weight = fitted(point).weight[0]
    # The client's rounding: eps of a rating's part in the gradient, not of the error's.
    eps = jnp.finfo(point.dtype).eps
    left = jnp.maximum(score, eps**2 * weight.sum())
    unknowns = rated.sum() + searched * point.size
    noise2 = left / jnp.maximum(entries - unknowns, 1)
    error2 = noise2 / jnp.where(weight > 0, weight, 1)
    if searched:
        changes, along = _jacobians(fitted, point)
        # What is below the rounding of these products themselves is not known either.
        noise = jnp.maximum(jnp.sqrt(noise2), eps * jnp.linalg.norm(changes))
        size = jnp.linalg.norm(point)
        known = jnp.eye(point.size) / jnp.where(size > 0, size, 1)
        tall = jnp.concatenate([changes / noise, known])
        triangle = jnp.linalg.qr(tall, mode="r")
        spread = jax.scipy.linalg.solve_triangular(triangle, along, trans=1)
        error2 = error2 + jnp.sum(spread**2, 0)
    return jnp.sqrt(jnp.sum(error2 * rated) / jnp.maximum(rated.sum(), 1))


def _jacobians(
    fitted: Callable[[jax.Array], Fit], point: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`[R, P]`, of the updates, in short; `[P, N]`, of the ratings."""

    def parts(point: jax.Array) -> tuple[Any, jax.Array]:
        found = fitted(point)
        return found.update, found.ratings[0]

    (update, ratings), push = jax.linearize(parts, point)
    short = match_lengths(update)

    def flat(direction: jax.Array) -> tuple[jax.Array, jax.Array]:
        change, of_ratings = push(direction)
        leaves = [x.ravel() for x in jax.tree.leaves(short(change))]
        return jnp.concatenate(leaves), of_ratings

    basis = jnp.eye(point.size).reshape(-1, *point.shape)
    size = sum(x.size for x in jax.tree.leaves(jax.eval_shape(short, update)))
    num = point.size + _AT_ONCE
    if size <= _WHOLE * num:
        changes, along = jax.lax.map(flat, basis, batch_size=_AT_ONCE)
        return changes.T, along
    # Slightly more random combinations of the rows than there are unknowns hold all
    # that matters, in a size that does not grow with the updates'. They are the same
    # in every run, for they carry no information of their own.
    pull = jax.linear_transpose(flat, point)
    keys = jax.random.split(jax.random.key(0), num)

    def combined(key: jax.Array) -> jax.Array:
        drawn = jax.random.normal(key, (size,), point.dtype)
        return pull((drawn, jnp.zeros_like(ratings)))[0].ravel()

    changes = jax.lax.map(combined, keys, batch_size=_AT_ONCE) / num**0.5
    along = jax.lax.map(lambda e: push(e)[1], basis, batch_size=_AT_ONCE)
    return changes, along


def determined(error: jax.Array, scale: RatingScale) -> jax.Array:
    """`[]` int32: `Status.OK` if the error leaves ratings on their step of the grid."""
    half = 0.5 if scale.implicit else scale.step / scale.high / 2
    status = jnp.where(error < half, Status.OK, Status.UNDERDETERMINED)
    return status.astype(jnp.int32)
