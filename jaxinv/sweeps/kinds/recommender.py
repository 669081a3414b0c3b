"""Sweeps of federated recommenders: each job is one user."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from jaxinv.attacks.base import Attack, closed_form
from jaxinv.audits.facts import interval, number
from jaxinv.audits.recommender import AuditConfig
from jaxinv.audits.recommender.attacks import ATTACKS
from jaxinv.audits.recommender.clients import (
    held_by_clients,
    received,
    simulated,
)
from jaxinv.audits.recommender.judge import Judge
from jaxinv.data.raters import raters, spread
from jaxinv.data.ratings import Ratings, generated_ratings, load_ratings
from jaxinv.federation import Clients, observed_steps
from jaxinv.models.recommenders import Recommender, build_recommender
from jaxinv.observation import Observation
from jaxinv.options import check_options
from jaxinv.population import Run
from jaxinv.precision import numerics
from jaxinv.sweeps.kinds.base import (
    COLUMNS,
    SEARCHED,
    Kind,
    Made,
    Point,
    Searched,
    Winner,
    described,
    in_transit,
)

_OWN_COLUMNS = {
    "num_ratings": "int64",
    "mae": "float64",
    "exact": "float64",
    "auc": "float64",
    "f1": "float64",
    "items_f1": "float64",
    "embedding_error": "float64",
    "guess_mae": "float64",
    "guess_exact": "float64",
    "true": "list<double>",
    "recovered": "list<double>",
}
"""The last two are ratings, in the units of the data and not yet put on their grid;
"guess" is who says the median everywhere."""

_MEANS = ("exact", "mae", "guess_mae", "guess_exact", "f1", "items_f1")


class Scene(NamedTuple):
    """What the users of one group have in common."""

    data: Ratings
    model: Recommender
    clients: Clients
    """Leaves `[users, ...]`."""
    judge: Judge


@dataclass(frozen=True)
class UserJob(Searched):
    """One user under one attack."""

    scene: Scene
    row: int
    """Of the user among the clients."""
    user: int
    """In the data."""

    own: ClassVar[tuple[str, ...]] = ("params", "update", "known")

    @property
    def sent_to(self) -> str:
        """All alike: each user's own rows of the params are among `own`."""
        return ""

    @property
    def restarts(self) -> int:
        """As the attack was asked for."""
        return self.point.config.restarts

    @property
    def precision(self) -> str | None:
        """Of training and attack."""
        return "float64" if self.point.config.float64 else None

    @property
    def numbers(self) -> Mapping[str, Any]:
        """All options of the attack."""
        return self.point.config.attack_options

    def signature(self) -> dict[str, Any]:
        """The model, the attack, and the shapes of what was sent."""
        config = self.point.config
        found = described(config)
        names = ("model", "model_options", "dim", "attack", "embedding", "all_items")
        names += ("restarts", "iterations", "float64")
        sent = self.scene.clients.observed
        shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(sent)]
        return {name: found[name] for name in names} | {
            "scale": self.scene.model.scale,
            "shapes": shapes,
        }

    def maker(self, without: Sequence[str] = ()) -> Callable[..., Attack]:
        """The attack that the audit's configuration asks for."""
        config, model = self.point.config, self.scene.model
        options = config.search()
        make = ATTACKS[config.attack].make
        check_options(config.attack, make, options)
        settled = {k: v for k, v in options.items() if k not in without}

        def made(**open_: Any) -> Attack:
            attack = make(model, **settled, **open_)
            return attack if isinstance(attack, Attack) else closed_form(attack)

        return made

    def observation(self) -> Observation:
        """What arrives of the user, and what the attacker is told besides."""
        config = self.point.config
        with numerics(self.precision):
            sent, truth = self._mine()
            key = jax.random.split(jax.random.key(config.seed), 3)[2]
            key = jax.random.fold_in(key, self.user)
            return received(config, key, sent, truth.user)

    def keys(self, restarts: int) -> jax.Array:
        """`[restarts]`, as in an audit of the same settings."""
        key = jax.random.split(jax.random.key(self.point.config.seed), 3)[1]
        return jax.random.split(jax.random.fold_in(key, self.user), restarts)

    def rows(self, winner: Winner, *, pictures: bool) -> list[dict[str, Any]]:
        """One row, the user's."""
        none, config = np.zeros(0), self.point.config
        run = Run(winner.found, none, none, 0.0, False)
        with numerics(self.precision):
            judged = self.scene.judge(self.user, self._mine()[1], run)
        row = dict.fromkeys(RECOMMENDER.columns) | self.about()
        row |= {k: v for k, v in judged.entry.items() if k in RECOMMENDER.columns}
        row |= {
            "target": config.model,
            "data": self.scene.data.name,
            "defense": in_transit(config),
            "index": self.user,
            "restarts": len(winner.scores),
            "iterations": config.iterations,
            "score": judged.entry["gradient_loss"],
            "scores": list(winner.scores),
            "statuses": list(winner.statuses),
        }
        if pictures:
            row |= {"true": judged.ratings.true, "recovered": judged.ratings.found}
        return [row]

    def _mine(self) -> Any:
        """The user's part of the clients: observation and profile."""
        return jax.tree.map(lambda leaf: leaf[self.row], tuple(self.scene.clients))


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


def _config(attack: str, chain: tuple[str, ...], seed: int, **given: Any):
    assert not chain  # refused before
    return AuditConfig(attack=attack, seed=seed, **given)


def _known(points: Sequence[Point]) -> list[str]:
    found = ["scale"]
    configs = [point.config for point in points]
    # Rows of zeros, without noise on them, tell by themselves.
    if not any(config.all_items and config.noise for config in configs):
        found.append("items")
    if all(config.embedding == "known" for config in configs):
        found.append("embedding")
    return found


def _line(
    rows: Sequence[Mapping[str, Any]], sizes: Mapping[str, int]
) -> dict[str, Any]:
    def mean(name: str) -> float | None:
        there = [row[name] for row in rows if row[name] is not None]
        return number(np.mean(there)) if there else None

    return {name: mean(name) for name in _MEANS} | {
        "exact_interval": interval([row["exact"] for row in rows]),
        "whole": sum(row["exact"] == 1 for row in rows),
        "underdetermined": sum(row["status"] == "UNDERDETERMINED" for row in rows),
    }


_OF_ATTACK = {"restarts", "iterations", "embedding"}
_PLACED = {"attack", "seed", "model_options", "attack_options"}
_OF_CASE = {f.name for f in fields(AuditConfig)} - _PLACED - _OF_ATTACK
_OF_CLIENTS = (*sorted(_OF_CASE - {"noise", "float16"}), "model_options", "seed")

RECOMMENDER = Kind(
    unit="user",
    config=_config,
    owner="model",
    of_case=frozenset(_OF_CASE),
    of_attack=frozenset(_OF_ATTACK),
    attacks=ATTACKS,
    takes_options=True,
    defended=False,
    columns={**COLUMNS, **SEARCHED, **_OWN_COLUMNS},
    pictured=("true", "recovered"),
    scenes=RecommenderScenes,
    known=_known,
    line=_line,
)
