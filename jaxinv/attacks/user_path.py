"""How a client's private embedding goes from round to round: free, tied, softly tied.

Free embeddings fit any gap. An attacker who is told how the client trains between two
observed rounds (`Knowledge.local_training`) can simulate its steps: the later embedding
is then no unknown ("tied"), or one that is drawn to the simulation ("soft"). In between
the server's public part is taken to move evenly, which is exact for a gap of one step.
Variants A, B and C of our derivation of MGradInv (Deng et al. 2025).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxinv.attacks.rating_fit import Seen
from jaxinv.errors import InputError
from jaxinv.local_training import LocalTraining
from jaxinv.models.recommenders import Profile, Recommender
from jaxinv.observation import Observation, require

COUPLINGS = ("free", "tied", "soft")
"""How the embeddings of the rounds hang together."""


def declared_steps(observation: Observation, coupling: str) -> LocalTraining | None:
    """How the client trains between two rounds; None where nothing needs it.

    Raises:
      KnowledgeError: it is needed and was not granted.
      InputError: it is not plain gradient descent on all of the client's ratings.
    """
    if coupling == "free":
        return None
    local = require(
        observation,
        "local_training",
        why=f"coupling={coupling!r} simulates the client's steps between two rounds; "
        "grant their size and number, or attack with coupling='free'",
    )
    if local.optimizer != "sgd" or local.batch_size is not None:
        raise InputError(
            f"local_training has optimizer {local.optimizer!r} and batch_size "
            f"{local.batch_size}; expected 'sgd' and None, steps on all ratings"
        )
    return local


def followed(
    model: Recommender,
    rounds: Seen,
    ratings: jax.Array,
    users: jax.Array,
    local: LocalTraining,
) -> jax.Array:
    """`[M - 1, D]`: where the client's steps lead from each round's embedding.

    Args:
      model: what the client trains.
      rounds: what the server sent.
      ratings: `[M, N]`, what it trains on in each.
      users: `[M, D]`.
      local: step size and number of the steps between two rounds.
    """
    ends = jax.vmap(lambda *parts: _trained(model, local, *parts))
    before = jax.tree.map(lambda x: x[:-1], rounds.public)
    after = jax.tree.map(lambda x: x[1:], rounds.public)
    return ends(before, after, rounds.trained[:-1], ratings[:-1], users[:-1])


def tied(
    model: Recommender,
    rounds: Seen,
    ratings: jax.Array,
    users: jax.Array,
    local: LocalTraining,
    first: jax.Array,
) -> jax.Array:
    """`[M, D]`, all embeddings from that of one round.

    Args:
      model: what the client trains.
      rounds: what the server sent.
      ratings: `[N]`, what it trains on.
      users: `[M, D]`, of which row `first` counts.
      local: as in `followed`.
      first: `[]`, the round that the others follow; those before it stay.
    """

    def step(user: jax.Array, part: Any) -> tuple[jax.Array, jax.Array]:
        index, before, after, trained = part
        ended = _trained(model, local, before, after, trained, ratings, user)
        user = jnp.where(index < first, users[first], ended)
        return user, user

    before = jax.tree.map(lambda x: x[:-1], rounds.public)
    after = jax.tree.map(lambda x: x[1:], rounds.public)
    gaps = jnp.arange(len(users) - 1)
    parts = (gaps, before, after, rounds.trained[:-1])
    start = users[first]
    return jnp.concatenate([start[None], jax.lax.scan(step, start, parts)[1]])


def _trained(
    model: Recommender,
    local: LocalTraining,
    before: Any,
    after: Any,
    trained: jax.Array,
    ratings: jax.Array,
    user: jax.Array,
) -> jax.Array:
    """`[D]`, the embedding after the steps between two rounds."""
    num = local.local_steps or local.epochs

    def step(user: jax.Array, gone: jax.Array) -> tuple[jax.Array, None]:
        public = jax.tree.map(lambda a, b: a + gone * (b - a), before, after)
        slope = jax.grad(lambda u: model.loss(public, Profile(ratings, trained, u)))
        return user - local.learning_rate * slope(user), None

    return jax.lax.scan(step, user, jnp.arange(num) / num)[0]
