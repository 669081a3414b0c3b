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

import jax
import jax.numpy as jnp

from jaxinv.attacks.base import AttackFn, Reconstruction, Status
from jaxinv.errors import InputError
from jaxinv.models.recommenders import Profile, RatingScale, Recommender, mf
from jaxinv.observation import Observation
from jaxinv.rounds import PerRound, round_weights

POWER_STEPS = 8
"""Of the power iteration for d; an exact gradient has rank one and needs one."""


def factorization(model: Recommender) -> AttackFn:
    """The closed form for `jaxinv.models.recommenders.mf` with explicit ratings.

    The observation's `params` and `update` hold `items` `[rounds, N, D]`, and rows of
    zeros in all updates are taken as not rated. The score is the mean over rounds of
    the relative squared distance between the updates. `stats`: "gap", the smallest
    singular value over the next: near 1, the rounds do not determine the ratings.
    Status GAVE_UP where they do not: one round, fewer than `(2 M - 1) / (M - 1)` rated
    items, a solution no embedding has, or ratings off the scale by a step and more.

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
        return _solve(observation, model.scale)

    return attack


def _solve(observation: Observation, scale: RatingScale) -> Reconstruction:
    items, slopes = observation.params["items"], observation.update["items"]
    weights = round_weights(observation)
    there = weights > 0
    slopes = jnp.where(there[:, None, None], slopes, 0)
    rated = jnp.any(slopes != 0, axis=(0, 2))
    count = rated.sum()

    direction = jax.vmap(_leading)(slopes)
    a = -count / 2 * jnp.einsum("mnd,md->mn", slopes, direction)
    p = jnp.where(rated, jnp.einsum("mnd,md->mn", items, direction), 0)
    columns = jnp.stack([a, p], -1)
    pairs, gap, loose = _null_vector(columns, weights)

    # The multiple of the null vector whose products inverse * alpha are 1. A factor is
    # known as well as its column contributes: near convergence a is next to nothing.
    parts = (pairs * jnp.linalg.norm(columns, axis=1)) ** 2
    known = weights * jnp.prod(parts, -1) / _at_least(parts.sum(-1))
    scale2 = jnp.sum(known * jnp.prod(pairs, -1)) / _at_least(known.sum())
    pairs = pairs / jnp.sqrt(jnp.where(scale2 > 0, scale2, 1))
    ratings = jnp.einsum("m,mnk,mk->n", weights, columns, pairs)
    sign = jnp.where(ratings.sum() < 0, -1.0, 1.0).astype(ratings.dtype)
    ratings, users = sign * ratings, sign * pairs[:, 1:] * direction

    errors = jnp.where(rated, ratings - jnp.einsum("mnd,md->mn", items, users), 0)
    guess = -2 / jnp.maximum(count, 1) * errors[..., None] * users[:, None]
    apart = jnp.sum((guess - slopes) ** 2, (1, 2)) / _at_least(
        jnp.sum(slopes**2, (1, 2))
    )
    score = jnp.sum(jnp.where(there, weights * apart, 0))

    rounds = there.sum()
    few = count * (rounds - 1) < 2 * rounds - 1
    # Ratings that nobody can give are no solution, however well they match.
    (low, high), slack = scale.box(), scale.step / scale.high
    beyond = rated & ((ratings < low - slack) | (ratings > high + slack))
    gave_up = few | loose | (scale2 <= 0) | beyond.any()
    lost = ~jnp.isfinite(score) | ~jnp.isfinite(ratings).all()
    status = jnp.where(gave_up, Status.GAVE_UP, Status.OK)
    return Reconstruction(
        Profile(ratings, rated.astype(ratings.dtype), PerRound(users)),
        jnp.where(lost, jnp.inf, score),
        jnp.where(lost, Status.DIVERGED, status).astype(jnp.int32),
        {"gap": gap},
    )


def _leading(slopes: jax.Array) -> jax.Array:
    """`[D]`, the right singular vector of `[N, D]`, of length 1 (0 for zeros)."""
    start = slopes[jnp.argmax(jnp.sum(slopes**2, -1))]

    def unit(x: jax.Array) -> jax.Array:
        # By the largest entry first: squares of small gradients vanish in float32.
        x = x / _at_least(jnp.max(jnp.abs(x)))
        return x / _at_least(jnp.linalg.norm(x))

    def body(_: int, x: jax.Array) -> jax.Array:
        return unit(unit(slopes @ x) @ slopes)

    return jax.lax.fori_loop(0, POWER_STEPS, body, unit(start))


def _null_vector(
    columns: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`z` with `columns[m] @ z[m]` the same for all m, up to a factor.

    Args:
      columns: `[M, N, 2]`.
      weights: `[M]`, summing to 1; a round of weight 0 gets z = 0.

    Returns:
      `z [M, 2]`; the smallest singular value over the next; whether there is no
      telling which vector it is.
    """
    num = len(columns)
    length = _at_least(jnp.linalg.norm(columns, axis=1))
    columns = columns / length[:, None]
    # Row block m: columns of round m less the weighted mean over rounds.
    own = jnp.eye(num, dtype=columns.dtype) - weights
    blocks = jnp.einsum("ml,lnk->mnlk", own * jnp.sqrt(weights)[:, None], columns)
    tall = blocks.reshape(-1, 2 * num)
    absent = jnp.diag(jnp.repeat(jnp.where(weights > 0, 0.0, 1.0), 2))
    tall = jnp.concatenate([tall, absent.astype(tall.dtype)])
    _, values, right = jnp.linalg.svd(tall, full_matrices=False)
    least, following = values[-1], values[-2]
    eps = jnp.finfo(values.dtype).eps
    loose = following < 10 * jnp.maximum(least, eps * values[0])
    return right[-1].reshape(num, 2) / length, least / _at_least(following), loose


def _at_least(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 1)
