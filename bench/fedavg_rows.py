"""The rows of `bench.fedavg`: who is attacked, how, and with which attack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jaxinv.attacks import build
from jaxinv.attacks.base import Attack
from jaxinv.attacks.fedavg_epochs import fedavg_epochs
from jaxinv.attacks.lbfgs import lbfgs
from jaxinv.fedavg import fedavg
from jaxinv.local_training import LocalTraining
from jaxinv.target import Target

EACH = 4
"""Images of a client."""
LOCAL = LocalTraining(1e-3, local_steps=4, batch_size=2)
"""What a client does."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    kind: str
    target: str
    attack: str
    restarts: int
    iterations: int
    clients: int | None = None
    """None takes as many as are asked for."""
    options: dict[str, Any] = field(default_factory=dict)


ROWS = {
    "lenet-known": Row("known", "lenet", "cosine_lbfgs", 2, 2500),
    "lenet-recovered": Row("recovered", "lenet", "cosine_lbfgs", 2, 2500),
    "lenet-guessed": Row("guessed", "lenet", "cosine_lbfgs", 2, 2500),
    "lenet-epochs": Row(
        "epochs", "lenet", "fedavg_epochs", 2, 2500, options={"tv": 1e-4}
    ),
    # As published: signed Adam, step decay.
    "convnet-known": Row(
        "known", "convnet", "inverting_gradients", 1, 200, 1, {"tv": 1e-3}
    ),
}


def attack_of(row: Row, target: Target, local: LocalTraining) -> Attack:
    """The attack of a row, on a client that trains so."""
    options: dict[str, Any] = row.options | {"num_steps": row.iterations}
    if row.attack == "fedavg_epochs":
        search = lbfgs(min_curvature=0.0, min_descent=0.0)
        return fedavg_epochs(
            target, local, num_examples=EACH, optimizer=search, **options
        )
    # Who was not told the order takes the images for the order in which they lie.
    believed = fedavg(
        target.loss,
        local.learning_rate,
        local_steps=local.local_steps,
        batch_size=local.batch_size,
    )
    return build(row.attack, target, release=believed, **options)
