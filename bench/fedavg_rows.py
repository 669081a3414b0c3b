"""The rows of `bench.fedavg`: who is attacked, how, and with which attack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jaxinv import matching, priors, space
from jaxinv.attacks import inverting_gradients, label_rule
from jaxinv.attacks.base import Attack
from jaxinv.attacks.fedavg_epochs import fedavg_epochs
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.attacks.lbfgs import lbfgs
from jaxinv.fedavg import fedavg
from jaxinv.local_training import LocalTraining
from jaxinv.objective import objective
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
    restarts: int
    iterations: int
    clients: int | None = None
    """None takes as many as are asked for."""
    options: dict[str, Any] = field(default_factory=dict)


SMOOTH = {"optimizer": "lbfgs", "tv": 1e-4}
ROWS = {
    "lenet-known": Row("known", "lenet", 2, 2500, options=SMOOTH),
    "lenet-recovered": Row("recovered", "lenet", 2, 2500, options=SMOOTH),
    "lenet-guessed": Row("guessed", "lenet", 2, 2500, options=SMOOTH),
    "lenet-epochs": Row("epochs", "lenet", 2, 2500, options=SMOOTH),
    # Inverting Gradients as published: signed Adam, step decay.
    "convnet-known": Row("known", "convnet", 1, 200, 1, {"tv": 1e-3}),
}


def attack_of(row: Row, target: Target, local: LocalTraining) -> Attack:
    """The attack of a row, on a client that trains so."""
    options = dict(row.options)
    smooth = options.pop("optimizer", None) == "lbfgs"
    optimizer = lbfgs(min_curvature=0.0, min_descent=0.0)
    if row.kind == "epochs":
        return fedavg_epochs(
            target,
            local,
            num_examples=EACH,
            num_steps=row.iterations,
            optimizer=optimizer if smooth else None,
            **options,
        )
    believed = fedavg(
        target.loss,
        local.learning_rate,
        local_steps=local.local_steps,
        batch_size=local.batch_size,
    )
    labels: space.LabelRule | str = "known"
    if row.kind == "recovered":
        labels = space.shuffled(label_rule("bias_corrected", target))
    if not smooth:
        return inverting_gradients(
            target,
            release=believed,
            num_steps=row.iterations,
            labels=labels,
            **options,
        )
    variation = priors.total_variation(inner=2, outer=0.5)
    return gradient_matching(
        objective(
            believed, matching.cosine(), priors.weighted((options["tv"], variation))
        ),
        space.pixels(target.spec, labels=labels),
        optimizer,
        row.iterations,
    )
