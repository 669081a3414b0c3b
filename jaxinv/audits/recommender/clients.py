"""The simulated federation: what the server saw of each user, and the truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.audits.recommender.config import AuditConfig
from jaxinv.data.implicit import interactions
from jaxinv.data.rating_grid import rating_grid
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
from jaxinv.models.recommenders import RatingScale, Recommender
from jaxinv.observation import Knowledge, Observation
from jaxinv.transit import in_transit

INTERACTIONS = RatingScale(low=0.5, high=1.0, step=0.5, implicit=True)
"""0 and 1, in the units of the data as in a profile's; the grid is not read."""


def held_by_clients(
    ratings: Ratings, *, implicit: bool, seed: int
) -> tuple[Ratings, RatingScale]:
    """What the clients train on, and its scale: which ratings can be given is public.

    Args:
      ratings: explicit ones.
      implicit: whether they become interactions.
      seed: of the negatives beside those.
    """
    if implicit:
        return interactions(ratings, seed=seed), INTERACTIONS
    return ratings, RatingScale(*rating_grid(ratings.rating))


def simulated(
    key: jax.Array,
    model: Recommender,
    ratings: Ratings,
    users: Sequence[int],
    steps: np.ndarray,
    learning_rate: float,
    *,
    together: bool = False,
    every_item: bool = False,
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
      every_item: whether the server sees a row of every item, those of items that the
        client does not train on being zero; see `jaxinv.data.ratings.grouped`.
    """
    training = (
        _everyone(key, model, ratings, steps, learning_rate) if together else None
    )
    # Wide groups: what is compiled for each costs more than what is padded.
    high = model.scale.high
    groups = grouped(ratings, users, scale=high, growth=4.0, every_item=every_item)
    for group in groups:
        if training is not None:
            yield group, observed_together(model, training, group)
        else:
            num = ratings.num_items
            yield group, observed_alone(key, model, group, num, steps, learning_rate)


def received(
    config: AuditConfig, key: jax.Array, sent: Observation, users: jax.Array
) -> Observation:
    """What arrives of one client, and what the attacker is told besides."""
    seen = in_transit(
        key,
        sent,
        noise=config.noise,
        every_row=config.all_items,
        float16=config.float16,
    )
    granted = users if config.embedding == "known" else None
    return dataclasses.replace(seen, known=Knowledge(users=granted))


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
