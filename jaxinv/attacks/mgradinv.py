"""MGradInv: ratings from several rounds of a federated recommender.

Deng, Liu, Tang and Zhao, "Twice the Gradient, Twice the Privacy Risk in Federated
Learning?" (2025). Only the abstract is public; what follows is re-derived from it. The
ratings are one for all rounds, the client's embedding, which never leaves it, has a
value in each, and both are searched for so that every round's gradient matches.

For given embeddings the best ratings are known (`jaxinv.attacks.rating_fit`), so that
the search is over the embeddings alone, by Levenberg and Marquardt's steps. The first
third of the steps matches the first round alone, which is the warm start of the others;
the second matches every round with ratings of its own; the last with the same ratings
in all.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxinv.attacks.base import Attack, Reconstruction, Status
from jaxinv.attacks.levenberg_marquardt import (
    FIRST_DAMPING,
    LeastSquares,
    lm_step,
    sum_of_squares,
)
from jaxinv.attacks.rating_error import determined, rating_error
from jaxinv.attacks.rating_fit import (
    ITEMS,
    Fit,
    Seen,
    fit,
    match,
    match_lengths,
    match_slope,
    seen,
)
from jaxinv.attacks.user_path import COUPLINGS, declared_steps, followed, tied
from jaxinv.errors import InputError
from jaxinv.models.recommenders import Profile, Recommender
from jaxinv.observation import Observation, require
from jaxinv.options import check_choice
from jaxinv.rounds import PerRound, round_weights

EMBEDDINGS = ("joint", "read", "random", "known")
"""What is done about the private embedding."""

STARTS = ("read", "random")
"""Where the search for it starts."""


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
    num_steps: int = 30,
    embedding: str = "joint",
    start: str = "read",
    coupling: str = "free",
    pull: float = 1.0,
    items: str = "same",
    spread: float = 1.0,
    products: int = 20,
) -> Attack:
    """MGradInv on observations of `[rounds]` of one client.

    The observation's `params` and `update` are the model's public part. The
    reconstruction's batch is a `Profile` with `user` per round; ratings are clipped to
    the scale and not put on its grid (`RatingScale.snapped` does). The score is the
    mean over rounds of the relative squared distance of the updates with those
    ratings. The winner has "rating_error" in `stats`, how far off its ratings are
    expected to be (see `jaxinv.attacks.rating_error`), and status UNDERDETERMINED where
    that is half a step of the scale or more.

    Args:
      model: what the client trains.
      num_steps: Levenberg-Marquardt steps; a random start wants twice as many.
      embedding: "joint" searches for it. "read" takes what the gradient gives away in
        closed form, of models that are not bilinear. Baselines: "random"
        leaves it as drawn (as RAIFLE, arXiv 2310.19163), "known" takes the granted
        one, an upper bound.
      start: of the search. "read": the direction that the gradient gives away, with a
        norm drawn as below; where it gives away all, that, and restarts are of no use.
        "random": drawn from the model's own distribution.
      coupling: "free" embeddings, one for each round; "tied" to the first by simulated
        steps of the client; "soft", drawn to the simulation. The last two need
        `Knowledge.local_training`: step size, and steps between two observed rounds.
      pull: weight of the squared distance to the simulation, relative to the
        embeddings' squared norm; of "soft".
      items: which items the client trained on, see `rating_fit.trained_items`.
      spread: a start's norm is drawn from the model's own distribution, times a factor
        whose logarithm has this standard deviation; the norm is what one round of
        factorisation does not tell, so that starts should differ in it.
      products: conjugate-gradient iterations in a step.

    Raises:
      InputError: an argument is out of range.
      KnowledgeError: at trace, where `embedding` is "known", or `coupling` not "free",
        and what it needs is not granted.
    """
    check_choice("embedding", embedding, EMBEDDINGS)
    check_choice("start", start, STARTS)
    check_choice("coupling", coupling, COUPLINGS)
    check_choice("items", items, ITEMS)
    for name, value in (("num_steps", num_steps), ("products", products)):
        if value < 1:
            raise InputError(f"{name} is {value}; expected 1 or more")
    for name, value in (("spread", spread), ("pull", pull)):
        if not value >= 0:
            raise InputError(f"{name} is {value}; expected 0 or more")
    bilinear = model.item_row is not None
    if embedding == "read" and bilinear:
        raise InputError(
            "embedding is 'read'; expected 'joint', for this model's gradient leaves "
            "the embedding's norm open"
        )
    searched = embedding == "joint"

    def init(key: jax.Array, observation: Observation) -> MGradInvState:
        rounds = seen(observation, items)
        key, key_spread = jax.random.split(key)
        drawn = model.init_user(key)
        drawn = drawn * jnp.exp(spread * jax.random.normal(key_spread))
        if embedding == "known":
            users = require(
                observation, "users", why="grant it, or attack with embedding='joint'"
            )
        elif embedding == "random" or start == "random":
            users = jnp.broadcast_to(drawn, (observation.rounds, *drawn.shape))
        else:
            users = jax.vmap(model.read_user)(observation.params, rounds.update)
            if bilinear:
                users = users * jnp.linalg.norm(drawn)
        if bilinear and embedding != "known":
            # Of both signs, the one whose ratings make sense; in each round by itself.
            alone = jnp.eye(observation.rounds)
            sums = [
                jnp.sum(_fit(observation, rounds, s * users, alone).ratings, 1)
                for s in (1, -1)
            ]
            users = jnp.where(_odder(*sums)[:, None], -users, users)
        return MGradInvState(
            users,
            jnp.asarray(FIRST_DAMPING, users.dtype),
            jnp.zeros((), jnp.int32),
            jnp.asarray(jnp.inf, users.dtype),
        )

    def step(observation: Observation, state: MGradInvState):
        rounds = seen(observation, items)
        if not searched:
            _, score = _judged(observation, rounds, state.users)
            return state._replace(count=state.count + 1, score=score), {"score": score}
        votes, matched = _stages(observation, start)
        length = max(1, num_steps // len(votes))
        stage = jnp.minimum(state.count // length, len(votes) - 1)
        entering = (state.count % length == 0) & (state.count // length == stage)
        # The other rounds start where the first one led.
        led = state.users[_first(observation)]
        users = jnp.where(entering & (stage == 1), led, state.users)
        damping = jnp.where(entering, FIRST_DAMPING, state.damping)

        def factors(users: jax.Array) -> Any:
            users, strayed = _coupled(observation, rounds, users)
            found = _fit(observation, rounds, users, votes[stage], matched[stage])
            return found.update, strayed

        def squares(factors: Any) -> jax.Array:
            update, strayed = factors
            return match(rounds, matched[stage], update) + sum_of_squares(strayed)

        def slope(factors: Any) -> Any:
            update, strayed = factors
            return match_slope(rounds, matched[stage], update), strayed

        def lengths(factors: Any) -> Any:
            short = match_lengths(factors[0])
            return lambda change: (short(change[0]), change[1])

        problem = LeastSquares(factors, squares, slope, lengths)
        users, damping, score = lm_step(problem, users, damping, products=products)
        state = MGradInvState(users, damping, state.count + 1, score)
        return state, {"score": score}

    def finish(observation: Observation, state: MGradInvState) -> Reconstruction:
        rounds = seen(observation, items)
        users, _ = _coupled(observation, rounds, state.users)
        if searched:
            users = _signed(observation, rounds, users)
        found, score = _judged(observation, rounds, users)
        marks = rounds.trained.max(0)
        lost = ~jnp.isfinite(score)
        status = jnp.where(marks.any(), Status.OK, Status.GAVE_UP)
        return Reconstruction(
            Profile(found.ratings[0], marks, PerRound(users)),
            jnp.where(lost, jnp.inf, score),
            jnp.where(lost, Status.DIVERGED, status).astype(jnp.int32),
        )

    def certify(observation: Observation, found: Reconstruction) -> Reconstruction:
        rounds, marks = seen(observation, items), found.batch.rated
        there = (round_weights(observation) > 0).astype(marks.dtype)
        layers = {n: x for n, x in rounds.update.items() if n != "items"}
        size = sum(leaf[0].size for leaf in jax.tree.leaves(layers))
        entries = there @ (rounds.trained.sum(1) * model.dim + size)

        def fitted(users: jax.Array) -> Fit:
            users, _ = _coupled(observation, rounds, users)
            return _fit(observation, rounds, users)

        users = found.batch.user.value
        error = rating_error(
            fitted, users, found.score, entries, marks, searched=searched
        )
        sure = jnp.where(
            found.status == Status.OK, determined(error, model.scale), found.status
        )
        stats = {**found.stats, "rating_error": error}
        return dataclasses.replace(found, status=sure, stats=stats)

    def _fit(
        observation: Observation,
        rounds: Seen,
        users: jax.Array,
        votes: jax.Array | None = None,
        matched: jax.Array | None = None,
        **options: Any,
    ) -> Fit:
        """With the last stage's votes unless others are given."""
        last = [part[-1] for part in _stages(observation, start)]
        votes = last[0] if votes is None else votes
        matched = last[1] if matched is None else matched
        return fit(model, rounds, users, votes, matched, **options)

    def _judged(
        observation: Observation, rounds: Seen, users: jax.Array
    ) -> tuple[Fit, jax.Array]:
        """With ratings on the scale, and the score of that."""
        found = _fit(observation, rounds, users, box=model.scale.box())
        return found, match(rounds, _stages(observation, start)[1][-1], found.update)

    def _coupled(
        observation: Observation, rounds: Seen, users: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The embeddings that a point stands for, and how far they stray."""
        local = declared_steps(observation, coupling)
        if local is None or observation.rounds == 1:
            return users, jnp.zeros(())
        if coupling == "tied":
            first = _first(observation)
            alone = jnp.eye(observation.rounds)
            ratings = _fit(observation, rounds, users, alone).ratings[first]
            return tied(model, rounds, ratings, users, local, first), jnp.zeros(())
        ratings = _fit(observation, rounds, users).ratings
        strayed = users[1:] - followed(model, rounds, ratings, users, local)
        size2 = jax.lax.stop_gradient(sum_of_squares(users))
        return users, jnp.sqrt(pull / jnp.where(size2 > 0, size2, 1)) * strayed

    def _signed(observation: Observation, rounds: Seen, users: jax.Array) -> jax.Array:
        """Users, or their opposite where that matches better or makes more sense."""
        ends = [_judged(observation, rounds, s * users) for s in (1, -1)]
        scores = [score for _, score in ends]
        odder = _odder(*(end.ratings[0] @ rounds.trained.max(0) for end, _ in ends))
        # Interactions of matrix factorisation match as well turned into their opposite.
        alike = jnp.abs(scores[0] - scores[1]) <= 1e-3 * jnp.minimum(*scores) + 1e-9
        return jnp.where(
            alike & odder | (scores[1] < scores[0]) & ~alike, -users, users
        )

    def _odder(total: jax.Array, flipped: jax.Array) -> jax.Array:
        """Whether ratings of this sum make less sense than those of the other sign.

        Ratings are positive; interactions are fewer than the negatives beside them.
        """
        return total > flipped if model.scale.implicit else total < flipped

    return Attack(init, step, finish, num_steps, certify)


def _stages(observation: Observation, start: str) -> tuple[jax.Array, jax.Array]:
    """Whose word each round's ratings are, and what is matched, of each stage.

    Returns:
      `[stages, M, M]`, the weights of the rounds that vote on the ratings of a round;
      `[stages, M]`, the weights of the rounds in the match.
    """
    weights = round_weights(observation)
    together = jnp.broadcast_to(weights, (weights.size, weights.size))
    if observation.rounds == 1 or start == "read":
        return together[None], weights[None]
    first = jnp.zeros_like(weights).at[_first(observation)].set(1)
    alone = jnp.eye(weights.size, dtype=weights.dtype)
    votes = jnp.stack([alone, alone, together])
    return votes, jnp.stack([first, weights, weights])


def _first(observation: Observation) -> jax.Array:
    """`[]`, the first round that is there."""
    return jnp.argmax(round_weights(observation) > 0)
