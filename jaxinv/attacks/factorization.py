"""Ratings from several rounds of matrix factorisation, in closed form.

Re-derived from the abstract of MGradInv (Deng, Liu, Tang and Zhao 2025) and FedMF (Chai
et al., arXiv 1906.05108); the paper's own formulas are not public. A client's gradient
by the items is `-(2/n) e u^T` with the errors `e = r - V u`. Its direction d is that of
the embedding, `u = alpha d`, and with `a = -(n/2) G d`, `p = V d`

    r = a / alpha + p alpha

holds for every alpha: one round fixes the ratings up to one number, the norm of the
embedding. The ratings are the same in all rounds, so that the numbers `(1/alpha_m,
alpha_m)` of M rounds solve a linear system of n (M - 1) equations in 2 M unknowns,
homogeneous: its null vector, scaled so that the products are 1.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxinv.attacks.base import AttackFn, Reconstruction, Status
from jaxinv.attacks.rating_error import determined
from jaxinv.errors import InputError
from jaxinv.models.recommenders import Profile, Recommender, leading_row, mf
from jaxinv.observation import Observation
from jaxinv.rounds import PerRound, round_weights

UNFIT = 0.1
"""Of the updates' squared norm: with so much left, a solution does not explain them."""

DRAWS = 8
"""Of noise, to learn how far off the ratings may be."""


def factorization(model: Recommender) -> AttackFn:
    """The closed form for `jaxinv.models.recommenders.mf` with explicit ratings.

    The observation's `params` and `update` hold `items` `[rounds, N, D]`, and rows of
    zeros in all updates are taken as not rated. The score is the mean over rounds of
    the relative squared distance between the updates. `stats`: "gap", the smallest
    singular value over the next: near 1, the rounds do not determine the ratings.
    "rating_error": how far the ratings go under noise of the size of what is left of
    the updates and of float rounding, root mean square in a profile's units.
    Status UNDERDETERMINED where the rounds do not determine the ratings: there is one,
    fewer than `(2 M - 1) / (M - 1)` items are rated, or that error is half a step of
    the scale or more; GAVE_UP where there is no solution: none that an embedding has,
    or ratings off the scale by a step and more.

    Raises:
      InputError: the model is not matrix factorisation of explicit ratings.
    """
    if model.predict.__qualname__.split(".")[0] != mf.__name__ or model.scale.implicit:
        raise InputError(
            "model is not matrix factorisation of explicit ratings; expected "
            "jaxinv.models.recommenders.mf, for others use mgradinv"
        )

    def attack(key: jax.Array, observation: Observation) -> Reconstruction:
        del key  # deterministic
        return _attack(observation, model)

    return attack


class _Solution(NamedTuple):
    ratings: jax.Array
    """`[N]`, of any size."""
    norms: jax.Array
    """`[M]`, alpha, negative where the direction is the opposite."""
    direction: jax.Array
    """`[M, D]`, d."""
    gap: jax.Array
    """`[]`, the smallest singular value over the next."""
    real: jax.Array
    """`[]` bool, whether there are embeddings like that."""


def _solve(items: jax.Array, slopes: jax.Array, weights: jax.Array) -> _Solution:
    """From rows `[M, N, D]` of the model and the gradients."""
    rated = jnp.any(slopes != 0, axis=(0, 2))
    direction = jax.vmap(leading_row)(slopes)
    a = -rated.sum() / 2 * jnp.einsum("mnd,md->mn", slopes, direction)
    p = jnp.where(rated, jnp.einsum("mnd,md->mn", items, direction), 0)
    columns = jnp.stack([a, p], -1)
    pairs, gap = _null_vector(columns, weights)

    # The multiple of the null vector whose products inverse * alpha are 1. A factor is
    # known as well as its column contributes: near convergence a is next to nothing.
    parts = (pairs * jnp.linalg.norm(columns, axis=1)) ** 2
    known = weights * jnp.prod(parts, -1) / _or_one(parts.sum(-1))
    scale2 = jnp.sum(known * jnp.prod(pairs, -1)) / _or_one(known.sum())
    pairs = pairs / jnp.sqrt(jnp.where(scale2 > 0, scale2, 1))
    ratings = jnp.einsum("m,mnk,mk->n", weights, columns, pairs)
    sign = jnp.where(ratings.sum() < 0, -1, 1)
    return _Solution(sign * ratings, sign * pairs[:, 1], direction, gap, scale2 > 0)


def _attack(observation: Observation, model: Recommender) -> Reconstruction:
    items, slopes = observation.params["items"], observation.update["items"]
    weights = round_weights(observation)
    there = weights > 0
    slopes = jnp.where(there[:, None, None], slopes, 0)
    rated = jnp.any(slopes != 0, axis=(0, 2))
    count = rated.sum()

    found = _solve(items, slopes, weights)
    users = found.norms[:, None] * found.direction
    errors = jnp.where(rated, found.ratings - jnp.einsum("mnd,md->mn", items, users), 0)
    guess = -2 / jnp.maximum(count, 1) * errors[..., None] * users[:, None]
    apart2, size2 = (
        jnp.sum(x**2, (1, 2), keepdims=True) for x in (guess - slopes, slopes)
    )
    score = jnp.sum(weights * (apart2 / _or_one(size2))[:, 0, 0])

    # The same again with noise: as much as keeps the gradients from rank one, and the
    # rounding of the client's errors and gradients. How far do the ratings go?
    across = slopes - (slopes @ found.direction[..., None]) * found.direction[:, None]
    level2 = jnp.sum(across**2, (1, 2), keepdims=True)
    level = jnp.sqrt(level2 / jnp.maximum(count * items.shape[-1], 1))
    eps = jnp.finfo(slopes.dtype).eps
    rows = 2 / jnp.maximum(count, 1) * users[:, None]

    def again(key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, 3)
        entries, rounding = (jax.random.normal(k, slopes.shape) for k in keys[:2])
        of_errors = jax.random.normal(keys[2], slopes.shape[:2])[..., None]
        noise = level * entries + eps * (slopes * rounding + rows * of_errors)
        noise = jnp.where((there[:, None] & rated)[..., None], noise, 0)
        return _solve(items, slopes + noise, weights).ratings

    drawn = jax.vmap(again)(jax.random.split(jax.random.key(0), DRAWS))
    apart = jnp.where(rated, drawn - found.ratings, 0)
    error = jnp.sqrt(jnp.sum(apart**2) / jnp.maximum(DRAWS * count, 1))

    # Ratings that nobody can give are no solution, however well they match.
    (low, high), slack = model.scale.box(), model.scale.step / model.scale.high
    ratings, rounds = found.ratings, there.sum()
    beyond = rated & ((ratings < low - slack) | (ratings > high + slack))
    few = count * (rounds - 1) < 2 * rounds - 1
    status = determined(error, model.scale)
    # Over all rounds together: of one that has converged, little but rounding is left.
    share = jnp.sum(weights * apart2[:, 0, 0]) / _or_one(
        jnp.sum(weights * size2[:, 0, 0])
    )
    unfit = ~found.real | beyond.any() | (share > UNFIT)
    status = jnp.where(unfit, Status.GAVE_UP, status)
    status = jnp.where(few, Status.UNDERDETERMINED, status)
    status = jnp.where(rated.any(), status, Status.GAVE_UP)
    lost = ~jnp.isfinite(score) | ~jnp.isfinite(ratings).all()
    return Reconstruction(
        Profile(ratings, rated.astype(ratings.dtype), PerRound(users)),
        jnp.where(lost, jnp.inf, score),
        jnp.where(lost, Status.DIVERGED, status).astype(jnp.int32),
        {"gap": found.gap, "rating_error": error},
    )


def _null_vector(columns: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`z` with `columns[m] @ z[m]` the same for all m, up to a factor.

    Args:
      columns: `[M, N, 2]`.
      weights: `[M]`, summing to 1; a round of weight 0 gets z = 0.

    Returns:
      `z [M, 2]`; the smallest singular value over the next.
    """
    num = len(columns)
    length = _or_one(jnp.linalg.norm(columns, axis=1))
    columns = columns / length[:, None]
    # Row block m: columns of round m less the weighted mean over rounds.
    own = jnp.eye(num, dtype=columns.dtype) - weights
    blocks = jnp.einsum("ml,lnk->mnlk", own * jnp.sqrt(weights)[:, None], columns)
    tall = blocks.reshape(-1, 2 * num)
    absent = jnp.diag(jnp.repeat(jnp.where(weights > 0, 0.0, 1.0), 2))
    tall = jnp.concatenate([tall, absent.astype(tall.dtype)])
    _, values, right = jnp.linalg.svd(tall, full_matrices=False)
    return right[-1].reshape(num, 2) / length, values[-1] / _or_one(values[-2])


def _or_one(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 1)
