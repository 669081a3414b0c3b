"""Defences on CIFAR-10: what attackers recover under each, and what it costs.

    JAXINV_DATA=... python -m bench defenses convnet --json convnet.json

Sixteen images, batch of one, labels known; each attack by an attacker who does not know
the defence and by one who does. Accuracy is that of models trained under the defence
for whole runs. The models are narrow, for a machine without an accelerator: pass
`--width` for wider ones. Without defences named, those of the table in DEFENSES.md.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.machine import machine
from jaxinv.audits.defenses import (
    CompareConfig,
    Comparison,
    Training,
    compare,
)
from jaxinv.cache import use_cache
from jaxinv.cli.defenses import print_rows
from jaxinv.cli.progress import reporting
from jaxinv.reports.defenses import write_report

DEFENSES = (
    "clipping:norm=1",
    "gaussian_noise:std=0.001",
    "gaussian_noise:std=0.01",
    "laplace_noise:std=0.01",
    "pruning:rate=0.9",
    "pruning:rate=0.99",
    "stochastic_quantisation:bits=4",
    "rotated_quantisation:bits=4",
    "sign",
    "dp_sgd:clip=1,noise_multiplier=0.1",
    "mixup",
    "soteria:rate=0.5",
    "censor",
    "encryption:ratio=0.1",
)

FEWER = (
    "gaussian_noise:std=0.1",
    "pruning:rate=0.99",
    "sign",
    "dp_sgd:clip=1,noise_multiplier=0.1",
    "encryption:ratio=0.1",
    "stochastic_quantisation:bits=4",
    "rotated_quantisation:bits=4",
    # Every trial is a loss in every step of every client's training.
    "censor:trials=2",
)
"""Where an attack takes minutes; Soteria's Jacobians would take hours of training."""

OPTIMISED = CompareConfig(
    defenses=FEWER,
    attacks=("inverting_gradients", "cosine_lbfgs"),
    target="convnet",
    num_examples=16,
    iterations=200,
    draws=2,
    training=Training(rounds=120, evaluations=4, seeds=2),
    # Attacked as the papers do, with running statistics; as these start, and as no
    # client can move them, a model does not learn with them.
    target_options={"width": 16, "norm": "batch_inference"},
    trained_options={"norm": "group"},
    attack_options={"tv": 1e-2},
)
CASES = {
    "convnet": OPTIMISED,
    "resnet18": replace(OPTIMISED, target="resnet18"),
    # A dense first layer: where the closed form applies.
    "mlp": replace(
        OPTIMISED,
        defenses=DEFENSES,
        target="mlp",
        iterations=300,
        normalise=True,
        draws=4,
        training=Training(rounds=300, evaluations=6, seeds=2),
        attacks=("linear_layer", "inverting_gradients", "dlg"),
        target_options={"widths": [64]},
        trained_options={},
        attack_options={},
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench defenses")
    parser.add_argument("case", choices=CASES)
    parser.add_argument("defenses", nargs="*", help="default: those of DEFENSES.md")
    parser.add_argument("--attack", action="append", help="repeatable")
    parser.add_argument("--width", type=int, help="of the model's first layer")
    parser.add_argument("--iterations", type=int, help="of each attack")
    parser.add_argument("--draws", type=int, help="that an attacker averages over")
    parser.add_argument("--rounds", type=int, help="of the training")
    parser.add_argument("--seeds", type=int, help="trainings under each defence")
    parser.add_argument("--examples", type=int, help="images attacked")
    parser.add_argument("--json", type=Path, help="where the numbers go")
    parser.add_argument("--report", type=Path, help="folder of the report's page")
    args = parser.parse_args(argv)
    config = _config(args)
    use_cache()

    def keep(found: Comparison) -> None:
        if args.report:
            write_report(found, args.report)
        if args.json:
            report: dict[str, Any] = {**found.report, "machine": machine()}
            # The folder that the data lies in is the reader's own.
            report["dataset"] = {**report["dataset"], "name": "cifar10_subset.npz"}
            report["command"] = f"python -m bench defenses {args.case} --json FILE"
            args.json.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")

    with reporting(Console(stderr=True)) as tell:
        found = compare(config, on_progress=tell, on_row=keep)
    keep(found)
    print_rows(Console(), found.report)
    return 0


def _config(args: argparse.Namespace) -> CompareConfig:
    config = CASES[args.case]
    data = Path(os.environ["JAXINV_DATA"]) / "cifar10_subset.npz"
    training = config.training
    for name in ("rounds", "seeds"):
        if getattr(args, name) is not None:
            training = replace(training, **{name: getattr(args, name)})
    changes: dict[str, Any] = {"data": str(data), "training": training}
    if args.attack:
        changes["attacks"] = tuple(args.attack)
    if args.defenses:
        changes["defenses"] = tuple(args.defenses)
    if args.draws is not None:
        changes["draws"] = args.draws
    if args.iterations is not None:
        changes["iterations"] = args.iterations
    if args.examples is not None:
        changes["num_examples"] = args.examples
    if args.width is not None:
        wide = {"widths": [args.width]} if args.case == "mlp" else {"width": args.width}
        changes["target_options"] = {**config.target_options, **wide}
    return replace(config, **changes)
