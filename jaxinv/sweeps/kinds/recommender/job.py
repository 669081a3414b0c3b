"""One job of a sweep of recommenders: a user, and its row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from jaxinv.attacks.base import Attack, closed_form
from jaxinv.audits.recommender.attacks import ATTACKS
from jaxinv.audits.recommender.clients import received
from jaxinv.audits.recommender.judge import Judge
from jaxinv.data.ratings import Ratings
from jaxinv.federation import Clients
from jaxinv.models.recommenders import Recommender
from jaxinv.observation import Observation
from jaxinv.options import check_options
from jaxinv.population import Run
from jaxinv.precision import numerics
from jaxinv.sweeps.kinds.base import (
    COLUMNS,
    SEARCHED,
    Searched,
    Winner,
    described,
    in_transit,
    starts_of,
)

USER_COLUMNS = {
    **COLUMNS,
    **SEARCHED,
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

    def blank(self) -> list[dict[str, Any]]:
        """One row, the user's."""
        config = self.point.config
        about = self.about() | {
            "target": config.model,
            "data": self.scene.data.name,
            "defense": in_transit(config),
            "index": self.user,
            "iterations": config.iterations,
        }
        return [dict.fromkeys(USER_COLUMNS) | about]

    def rows(self, winner: Winner, *, pictures: bool) -> list[dict[str, Any]]:
        """One row, the user's."""
        none = np.zeros(0)
        run = Run(winner.found, none, none, 0.0, False)
        with numerics(self.precision):
            judged = self.scene.judge(self.user, self._mine()[1], run)
        row = self.blank()[0] | starts_of(winner)
        row |= {k: v for k, v in judged.entry.items() if k in USER_COLUMNS}
        row["score"] = judged.entry["gradient_loss"]
        if pictures:
            row |= {"true": judged.ratings.true, "recovered": judged.ratings.found}
        return [row]

    def _mine(self) -> Any:
        """The user's part of the clients: observation and profile."""
        return jax.tree.map(lambda leaf: leaf[self.row], tuple(self.scene.clients))
