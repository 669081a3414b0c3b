"""The simulated federation: what the server saw of each user, and the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.data.ratings import Group, Ratings, grouped
from jaxinv.federation import (
    Clients,
    Training,
    observed_alone,
    observed_together,
    pairs_of,
    start,
    train_together,
)
from jaxinv.models.recommenders import Recommender


def simulated(
    key: jax.Array,
    model: Recommender,
    ratings: Ratings,
    users: Sequence[int],
    steps: np.ndarray,
    learning_rate: float,
    *,
    together: bool = False,
) -> Iterator[tuple[Group, Clients]]:
    """Groups of users, each simulated when it is asked for.

    Args:
      key: of the model's start.
      model: what is trained.
      ratings: of all users.
      users: who is observed.
      steps: `[rounds]`, from `jaxinv.federation.observed_steps`.
      learning_rate: of clients and server.
      together: whether all users of the data train, once for all groups; else each
        observed user trains as if alone.
    """
    training = (
        _everyone(key, model, ratings, steps, learning_rate) if together else None
    )
    # Wide groups: what is compiled for each costs more than what is padded.
    for group in grouped(ratings, users, scale=model.scale.high, growth=4.0):
        if training is not None:
            yield group, observed_together(model, training, group)
        else:
            num = ratings.num_items
            yield group, observed_alone(key, model, group, num, steps, learning_rate)


def _everyone(
    key: jax.Array,
    model: Recommender,
    ratings: Ratings,
    steps: np.ndarray,
    learning_rate: float,
) -> Training:
    public, users = start(key, model, ratings.num_items, np.arange(ratings.num_users))
    user, item, rating = pairs_of(ratings, model.scale.high)
    pairs = (user, item, rating.astype(users.dtype))
    # Layers that all share would take steps as many times too long as there are users.
    server = "sum" if set(public) == {"items"} else "mean"

    def run(public: Any, users: jax.Array) -> Training:
        return train_together(
            model,
            public,
            users,
            pairs,
            jnp.asarray(steps),
            learning_rate,
            server=server,
        )

    return jax.jit(run)(public, users)
