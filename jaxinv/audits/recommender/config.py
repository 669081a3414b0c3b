"""What an audit of a recommender can be asked: one dataclass, checked when made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from jaxinv.attacks.mgradinv import EMBEDDINGS
from jaxinv.audits.recommender.attacks import ATTACKS, default_attack
from jaxinv.audits.settings import check_whole, command
from jaxinv.errors import InputError, nearest
from jaxinv.models.recommenders import RECOMMENDERS

_LOWEST = {
    "rounds": 1,
    "interval": 1,
    "start": 0,
    "users": 1,
    "least_ratings": 1,
    "dim": 1,
    "restarts": 1,
    "seed": 0,
}

# What --set may not say, because an option of its own says it.
_SPELLED = {
    "model_options": {"dim": "dim"},
    "attack_options": {"num_steps": "iterations", "embedding": "embedding"},
}


@dataclass(frozen=True)
class AuditConfig:
    """What to audit. Every field is a setting of the command line.

    Attributes:
      model: a name in `jaxinv.models.recommenders.RECOMMENDERS`.
      attack: a name in `ATTACKS`; None takes the closed form where one will do.
      embedding: what MGradInv does about the private embedding, one of its
        `EMBEDDINGS`. "known" grants it to the attacker, who never has it: the audit
        is then of an upper bound, and its report says so.
      rounds: of training that the server observed.
      interval: steps of training between two of them.
      start: steps of training before the first.
      together: whether every user trains; else only the one under attack does.
      learning_rate: of clients and server.
      data: a .csv or .npz of ratings; None takes generated ones.
      implicit: whether clients train on interactions: items rated, and negatives.
      all_items: whether each client sends a row for every item of the catalogue, with
        noise on all, so that the attack has to find the rated ones.
      users: how many are attacked, spread evenly over those with enough ratings.
      least_ratings: of a user who is attacked.
      most_ratings: likewise; None sets no limit.
      dim: entries of an embedding.
      restarts: starts of the attack on every user; closed forms take one.
      iterations: steps of every start; None takes the attack's own number.
      noise: on the update, as a share of each leaf (`jaxinv.transit`).
      float16: whether the update is rounded to it on its way.
      float64: whether training and attack compute in it.
      seed: of the training and of the attack.
      model_options: of the model's builder.
      attack_options: of the attack.
    """

    model: str = "mf"
    attack: str | None = None
    embedding: str = "joint"
    rounds: int = 2
    interval: int = 10
    start: int = 0
    together: bool = False
    learning_rate: float = 0.05
    data: str | None = None
    implicit: bool = False
    all_items: bool = False
    users: int = 12
    least_ratings: int = 20
    most_ratings: int | None = None
    dim: int = 64
    restarts: int = 8
    iterations: int | None = None
    noise: float = 0.0
    float16: bool = False
    float64: bool = False
    seed: int = 0
    model_options: dict[str, Any] = field(default_factory=dict)
    attack_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.model not in RECOMMENDERS:
            raise InputError(
                f"model is {self.model!r}; {nearest(self.model, RECOMMENDERS)}"
            )
        if self.attack is None:
            attack = default_attack(
                self.model, implicit=self.implicit, hidden=self.all_items
            )
            object.__setattr__(self, "attack", attack)
        check_whole(self, _LOWEST)
        self._check_attack()
        most, least = self.most_ratings, self.least_ratings
        if most is not None and most < least:
            raise InputError(
                f"most_ratings is {most!r}; expected at least least_ratings, {least}"
            )
        if not 0 < self.learning_rate < math.inf:
            raise InputError(
                f"learning_rate is {self.learning_rate!r}; expected a positive number"
            )
        if not 0 <= self.noise < math.inf:
            raise InputError(f"noise is {self.noise!r}; expected a share of 0 or more")
        for name, spelled in _SPELLED.items():
            for option in spelled.keys() & getattr(self, name).keys():
                raise InputError(
                    f"option {option} is set in {name}; expected {spelled[option]}, "
                    "which sets it"
                )

    def _check_attack(self) -> None:
        if self.attack not in ATTACKS:
            raise InputError(
                f"attack is {self.attack!r}; {nearest(self.attack, ATTACKS)}"
            )
        row = ATTACKS[self.attack]
        if self.model not in row.models:
            raise InputError(
                f"attack is {self.attack!r} and model {self.model!r}; it attacks "
                f"{', '.join(row.models)}, for others take mgradinv"
            )
        for name, able in (("implicit", row.implicit), ("all_items", row.hidden)):
            if getattr(self, name) and not able:
                raise InputError(
                    f"{name} is True; {self.attack} needs explicit ratings of known "
                    "items, expected attack mgradinv"
                )
        if self.embedding not in EMBEDDINGS:
            close = nearest(self.embedding, EMBEDDINGS)
            raise InputError(f"embedding is {self.embedding!r}; {close}")
        if not row.loop and self.embedding != "joint":
            raise InputError(
                f"embedding is {self.embedding!r}; {self.attack} has no such choice, "
                "expected attack mgradinv"
            )
        if self.iterations is not None and not row.loop:
            raise InputError(
                f"iterations is {self.iterations}; {self.attack} is a closed form and "
                "takes no steps"
            )
        if self.iterations is not None and self.iterations < 1:
            raise InputError(f"iterations is {self.iterations!r}; expected >= 1")

    def search(self) -> dict[str, Any]:
        """Every option of the attack."""
        options = dict(self.attack_options)
        if self.attack is not None and ATTACKS[self.attack].loop:
            options["embedding"] = self.embedding
            if self.all_items:
                options.setdefault("items", "all")
            if self.iterations is not None:
                options["num_steps"] = self.iterations
        return options

    def command(self) -> str:
        """The shell command that repeats this audit."""
        return command("recommender", self, always=("model", "attack", "seed"))
