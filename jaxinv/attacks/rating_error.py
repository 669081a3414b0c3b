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
from jaxinv.attacks.levenberg_marquardt import sum_of_squares
from jaxinv.attacks.rating_fit import Fit
from jaxinv.models.recommenders import RatingScale

_AT_ONCE = 16
"""Directions under one vmap."""


def rating_error(
    fitted: Callable[[jax.Array], Fit],
    point: jax.Array,
    entries: jax.Array,
    rated: jax.Array,
    *,
    searched: bool = True,
) -> jax.Array:
    """`[]`, the expected root mean square error of the ratings, in a profile's units.

    The Jacobian is known by random combinations of its rows, slightly more of them
    than unknowns, so that its size does not grow with the updates'.

    Args:
      fitted: `(point) -> Fit`, differentiable.
      point: `[...]`, the solution.
      entries: `[]`, numbers in the updates that the fit is held against.
      rated: `[N]`, 1 for an item that counts, else 0.
      searched: whether the point was; a given one has no error of its own.
    """
    found = fitted(point)
    # The client's rounding: eps of a rating's part in the gradient, not of the error's.
    eps = jnp.finfo(point.dtype).eps
    left = jnp.maximum(sum_of_squares(found.apart), eps**2 * found.weight[0].sum())
    unknowns = rated.sum() + searched * point.size
    noise2 = left / jnp.maximum(entries - unknowns, 1)
    error2 = noise2 / jnp.where(found.weight[0] > 0, found.weight[0], 1)
    if searched:
        values, along = _directions(fitted, point)
        size2 = jnp.sum(point**2)
        # How well the updates know each direction, and how large it can be at most.
        known = values**2 / noise2 + 1 / jnp.where(size2 > 0, size2, 1)
        error2 = error2 + jnp.sum(along**2 / known[:, None], 0)
    return jnp.sqrt(jnp.sum(error2 * rated) / jnp.maximum(rated.sum(), 1))


def _directions(
    fitted: Callable[[jax.Array], Fit], point: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """How differences and ratings change along the point's singular directions.

    Returns:
      `[P]`, the singular values of the differences' Jacobian, descending, 0 where they
      are below its rounding; `[P, N]`, the change of the ratings along each direction.
    """

    def parts(point: jax.Array) -> tuple[Any, jax.Array]:
        found = fitted(point)
        return found.apart, found.ratings[0]

    (apart, ratings), push = jax.linearize(parts, point)
    pull = jax.linear_transpose(push, point)
    leaves, structure = jax.tree.flatten(apart)
    num = point.size + _AT_ONCE

    def combined(key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, len(leaves))
        drawn = [
            jax.random.normal(k, x.shape, x.dtype)
            for k, x in zip(keys, leaves, strict=True)
        ]
        down = jax.tree.unflatten(structure, drawn), jnp.zeros_like(ratings)
        return pull(down)[0].ravel()

    # The same combinations in every run: they carry no information of their own.
    keys = jax.random.split(jax.random.key(0), num)
    rows = jax.lax.map(combined, keys, batch_size=_AT_ONCE) / num**0.5
    _, values, right = jnp.linalg.svd(rows, full_matrices=False)
    # What is below the rounding of the largest is not known at all.
    resolved = values > jnp.finfo(values.dtype).eps * point.size * values[0]

    def change(direction: jax.Array) -> jax.Array:
        return push(direction.reshape(point.shape))[1]

    along = jax.lax.map(change, right, batch_size=_AT_ONCE)
    return jnp.where(resolved, values, 0), along


def determined(error: jax.Array, scale: RatingScale) -> jax.Array:
    """`[]` int32: `Status.OK` if the error leaves ratings on their step of the grid."""
    half = 0.5 if scale.implicit else scale.step / scale.high / 2
    status = jnp.where(error < half, Status.OK, Status.UNDERDETERMINED)
    return status.astype(jnp.int32)
