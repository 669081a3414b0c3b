"""MGradInv: ratings from several rounds of a federated recommender.

Deng, Liu, Tang and Zhao, "Twice the Gradient, Twice the Privacy Risk in Federated
Learning?" (2025). Only the abstract is public; what follows is re-derived from it. The
ratings are one for all rounds, the client's embedding, which never leaves it, has a
value in each, and both are searched for so that every round's gradient matches.

The gradient of a squared error, and of a cross-entropy, is affine in the ratings. So
they need no search: for given embeddings each is one weighted mean over rounds, and the
search is over the embeddings alone (variable projection, Golub and Pereyra 1973), by
Levenberg and Marquardt's steps. The first third of the steps matches the first round
alone, which is the warm start of the others; the second matches every round with
ratings of its own; the last with the same ratings in all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxinv.attacks.base import Attack, Reconstruction, Status
from jaxinv.attacks.levenberg_marquardt import FIRST_DAMPING, lm_step, sum_of_squares
from jaxinv.errors import InputError
from jaxinv.models.recommenders import Profile, Recommender
from jaxinv.observation import Observation, require
from jaxinv.options import check_choice
from jaxinv.rounds import PerRound, round_weights

EMBEDDINGS = ("joint", "random", "known")
"""What is done about the private embedding."""


class MGradInvState(NamedTuple):
    """Where a start is."""

    users: jax.Array
    """`[rounds, D]`."""
    damping: jax.Array
    """`[]`, of Levenberg and Marquardt's steps."""
    count: jax.Array
    """`[]` int32, steps taken."""
    score: jax.Array
    """`[]`, what the stage minimises."""


def mgradinv(
    model: Recommender,
    *,
    num_steps: int = 60,
    embedding: str = "joint",
    spread: float = 1.0,
    products: int = 20,
) -> Attack:
    """MGradInv on observations of `[rounds]` of one client.

    The observation's `params` and `update` are the model's public part; item rows of
    zeros in all updates are taken as not rated. The reconstruction's batch is a
    `Profile` with `user` per round; ratings are clipped to the scale and not put on
    its grid (`RatingScale.snapped` does). The score is the mean over rounds of the
    relative squared distance of the updates with those ratings.

    Args:
      model: what the client trains.
      num_steps: Levenberg-Marquardt steps.
      embedding: "joint" searches for it. Baselines: "random" leaves it as drawn
        (as RAIFLE, arXiv 2310.19163), "known" takes the granted one, an upper bound.
      spread: starts are drawn from the model's own distribution, times a factor whose
        logarithm has this standard deviation; the norm is what one round does not
        tell, so that starts should differ in it.
      products: conjugate-gradient iterations in a step.

    Raises:
      InputError: an argument is out of range.
      KnowledgeError: at trace, where `embedding` is "known" and it is not granted.
    """
    check_choice("embedding", embedding, EMBEDDINGS)
    for name, value in (("num_steps", num_steps), ("products", products)):
        if value < 1:
            raise InputError(f"{name} is {value}; expected 1 or more")
    if not spread >= 0:
        raise InputError(f"spread is {spread}; expected 0 or more")
    low, high = model.scale.box()

    def init(key: jax.Array, observation: Observation) -> MGradInvState:
        if embedding == "known":
            users = require(
                observation, "users", why="grant it, or attack with embedding='joint'"
            )
        else:
            key, key_spread = jax.random.split(key)
            drawn = model.init_user(key)
            drawn = drawn * jnp.exp(spread * jax.random.normal(key_spread))
            users = jnp.broadcast_to(drawn, (observation.rounds, *drawn.shape))
            # Where the embedding's sign is free, the one whose ratings make sense.
            votes, matched = _stages(observation)
            totals = [
                (matched[0] @ _ratings(model, observation, s * users, votes[0])).sum()
                for s in (1, -1)
            ]
            users = jnp.where(_odder(*totals), -users, users)
        return MGradInvState(
            users,
            jnp.asarray(FIRST_DAMPING, users.dtype),
            jnp.zeros((), jnp.int32),
            jnp.asarray(jnp.inf, users.dtype),
        )

    def step(observation: Observation, state: MGradInvState):
        if embedding != "joint":
            score, _ = _judged(model, observation, state.users)
            return state._replace(count=state.count + 1, score=score), {"score": score}
        votes, matched = _stages(observation)
        length = max(1, num_steps // len(votes))
        stage = jnp.minimum(state.count // length, len(votes) - 1)
        entering = (state.count % length == 0) & (state.count // length == stage)
        # The other rounds start where the first one led.
        spread_out = entering & (stage == 1)
        led = state.users[_first(observation)]
        users = jnp.where(spread_out, led, state.users)
        damping = jnp.where(entering, FIRST_DAMPING, state.damping)

        def residuals(users: jax.Array) -> Any:
            ratings = _ratings(model, observation, users, votes[stage])
            return _residuals(model, observation, users, ratings, matched[stage])

        users, damping, score = lm_step(residuals, users, damping, products=products)
        state = MGradInvState(users, damping, state.count + 1, score)
        return state, {"score": score}

    def finish(observation: Observation, state: MGradInvState) -> Reconstruction:
        signs = (1, -1) if embedding == "joint" else (1, 1)
        ends = [_judged(model, observation, s * state.users) for s in signs]
        scores, ratings = (jnp.stack(part) for part in zip(*ends, strict=True))
        odder = _odder(*(ratings * _rated(observation)).sum(1))
        # Interactions of matrix factorisation match as well turned into their opposite.
        alike = jnp.abs(scores[0] - scores[1]) <= 1e-3 * scores.min() + 1e-9
        flipped = jnp.where(alike, odder, ~(scores[0] <= scores[1]))
        best = flipped.astype(jnp.int32)
        ratings = ratings[best]
        users = jnp.asarray(signs, state.users.dtype)[best] * state.users
        score, rated = scores[best], _rated(observation)
        lost = ~jnp.isfinite(score)
        status = jnp.where(rated.any(), Status.OK, Status.GAVE_UP)
        return Reconstruction(
            Profile(ratings, rated.astype(ratings.dtype), PerRound(users)),
            jnp.where(lost, jnp.inf, score),
            jnp.where(lost, Status.DIVERGED, status).astype(jnp.int32),
        )

    def _odder(total: jax.Array, flipped: jax.Array) -> jax.Array:
        """Whether ratings of this sum make less sense than those of the other sign.

        Ratings are positive; interactions are fewer than the negatives beside them.
        """
        return total > flipped if model.scale.implicit else total < flipped

    def _judged(model: Recommender, observation: Observation, users: jax.Array):
        votes, matched = (stages[-1] for stages in _stages(observation))
        ratings = jnp.clip(_ratings(model, observation, users, votes), low, high)
        apart = _residuals(model, observation, users, ratings, matched)
        return sum_of_squares(apart), ratings[0]

    return Attack(init, step, finish, num_steps)


def _stages(observation: Observation) -> tuple[jax.Array, jax.Array]:
    """Whose word each round's ratings are, and what is matched, of each stage.

    Returns:
      `[stages, M, M]`, the weights of the rounds that vote on the ratings of a round;
      `[stages, M]`, the weights of the rounds in the match.
    """
    weights = round_weights(observation)
    together = jnp.broadcast_to(weights, (weights.size, weights.size))
    if observation.rounds == 1:
        return together[None], weights[None]
    first = jnp.zeros_like(weights).at[_first(observation)].set(1)
    alone = jnp.eye(weights.size, dtype=weights.dtype)
    votes = jnp.stack([alone, alone, together])
    return votes, jnp.stack([first, weights, weights])


def _first(observation: Observation) -> jax.Array:
    """`[]`, the first round that is there."""
    return jnp.argmax(round_weights(observation) > 0)


def _rated(observation: Observation) -> jax.Array:
    """`[N]` bools: the items whose rows moved."""
    there = round_weights(observation) > 0
    rows = observation.update["items"] != 0
    return jnp.any(rows & there[:, None, None], axis=(0, 2))


def _gradients(
    model: Recommender, observation: Observation, users: jax.Array, ratings: jax.Array
) -> Any:
    rated = _rated(observation).astype(users.dtype)

    def one(public: Any, user: jax.Array, ratings: jax.Array) -> Any:
        return jax.grad(model.loss)(public, Profile(ratings, rated, user))

    return jax.vmap(one)(observation.params, users, ratings)


def _per_norm2(observation: Observation) -> jax.Array:
    """`[rounds]`, one over the squared norm of each update; 0 for a missing one."""
    norm2 = jax.vmap(sum_of_squares)(observation.update)
    return jnp.where(norm2 > 0, 1 / jnp.where(norm2 > 0, norm2, 1), 0)


def _ratings(
    model: Recommender, observation: Observation, users: jax.Array, votes: jax.Array
) -> jax.Array:
    """`[M, N]`, the ratings for which the item rows match best, of any size.

    A row of a gradient depends on its own rating alone and is affine in it.
    """
    zeros = jnp.zeros(observation.update["items"].shape[:2], users.dtype)
    offset = _gradients(model, observation, users, zeros)["items"]
    slope = _gradients(model, observation, users, zeros + 1)["items"] - offset
    weights = _per_norm2(observation)[:, None]
    square = votes @ (weights * jnp.sum(slope**2, 2))
    apart = observation.update["items"] - offset
    inner = votes @ (weights * jnp.sum(slope * apart, 2))
    return jnp.where(square > 0, inner / jnp.where(square > 0, square, 1), 0)


def _residuals(
    model: Recommender,
    observation: Observation,
    users: jax.Array,
    ratings: jax.Array,
    matched: jax.Array,
) -> Any:
    """Differences of the updates, scaled so that the squares sum to the match."""
    scale = jnp.sqrt(matched * _per_norm2(observation))
    guess = _gradients(model, observation, users, ratings)

    def scaled(g: jax.Array, u: jax.Array) -> jax.Array:
        return (g - u) * scale.reshape(-1, *([1] * (u.ndim - 1)))

    return jax.tree.map(scaled, guess, observation.update)
