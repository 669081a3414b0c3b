"""The scenes of a sweep of recommenders: ratings, and trainings on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import jax
import numpy as np

from jaxinv.audits.recommender import AuditConfig
from jaxinv.audits.recommender.clients import held_by_clients, simulated
from jaxinv.audits.recommender.judge import Judge
from jaxinv.data.raters import raters, spread
from jaxinv.data.ratings import Ratings, generated_ratings, load_ratings
from jaxinv.federation import observed_steps
from jaxinv.models.recommenders import build_recommender
from jaxinv.precision import numerics
from jaxinv.sweeps.kinds.base import Made, Point
from jaxinv.sweeps.kinds.recommender.job import Scene, UserJob

_AFTER = {"attack", "restarts", "iterations", "embedding", "attack_options"}
_AFTER |= {"noise", "float16"}
_OF_CLIENTS = tuple(f.name for f in fields(AuditConfig) if f.name not in _AFTER)
"""Fields that decide what the clients do; the others come after it."""


class RecommenderScenes:
    """Ratings and trainings, each made once."""

    def __init__(self) -> None:
        self._once = Made()
        self._data: dict[str, Ratings] = {}

    def jobs(self, point: Point, numbers: Iterator[int]) -> Iterator[UserJob]:
        """A job for each user.

        Raises:
          InputError: the point does not fit.
          OSError: its data cannot be read.
        """
        config = point.config
        with numerics("float64" if config.float64 else None):
            scenes = self._of(config)
        for scene, users in scenes:
            for row, user in enumerate(users):
                yield UserJob(next(numbers), point, scene, row, user)

    def fingerprints(self) -> dict[str, str]:
        """Of the ratings."""
        found = {}
        for name, data in self._data.items():
            digest = hashlib.sha256()
            for column in (data.user, data.item, data.rating):
                digest.update(np.ascontiguousarray(column).data)
            found[name] = digest.hexdigest()
        return found

    def sizes(self) -> dict[str, int]:
        """Users of each data set."""
        return {data.name: data.num_users for data in self._data.values()}

    def _of(self, config: AuditConfig) -> list[tuple[Scene, list[int]]]:
        def data() -> Ratings:
            given = config.data
            return load_ratings(Path(given)) if given else generated_ratings()

        ratings = self._once(config, ("data",), data)
        self._data[str(config.data or ratings.name)] = ratings
        return self._once(config, _OF_CLIENTS, lambda: list(_clients(config, ratings)))


def _clients(
    config: AuditConfig, ratings: Ratings
) -> Iterator[tuple[Scene, list[int]]]:
    """The users under attack after their training, in groups of one shape."""
    held, scale = held_by_clients(ratings, implicit=config.implicit, seed=config.seed)
    options = {"dim": config.dim, **config.model_options}
    model = build_recommender(config.model, scale, **options)
    fitting = raters(ratings, config.least_ratings, config.most_ratings)
    judge = Judge(model, float(np.quantile(held.rating, 0.5, method="lower")))
    steps = observed_steps(config.start, config.interval, config.rounds)
    for group, clients in simulated(
        jax.random.split(jax.random.key(config.seed), 3)[0],
        model,
        held,
        spread(fitting, config.users),
        steps,
        config.learning_rate,
        together=config.together,
        every_item=config.all_items,
    ):
        yield Scene(ratings, model, clients, judge), group.users.tolist()
