"""Learnable data perturbation against baselines of the same utility, and its attacks.

    JAXINV_DATA=... python -m bench perturbation --data pneumonia --json out.json

The defence is re-derived from an abstract (`jaxinv.defenses.learned_perturbation`), so
no figure here reproduces one of the paper. Clients train a sigmoid LeNet, one example
each; gradients of models as initialised are attacked, where they say the most.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from bench.perturbation_clients import load
from bench.perturbation_fitting import fitted, judges
from bench.perturbation_judge import comparisons
from bench.perturbation_matching import matched
from bench.perturbation_rows import attacked
from bench.perturbation_setting import Study
from jaxinv.defenses.learned_perturbation import Perturber, save
from jaxinv.defenses.learned_perturbation import load as read

FITTED = ("autoencoder_mse", "mean_image_mse", "game")
"""What the file says of how the perturber was fitted."""


def main(argv: Sequence[str]) -> int:
    """Runs the study on one data set, prints its tables and writes JSON and picture."""
    parser = argparse.ArgumentParser(prog="python -m bench perturbation")
    parser.add_argument("--data", choices=("pneumonia", "cifar10"), default="pneumonia")
    parser.add_argument("--form", choices=("tanh", "gaussian"), default="gaussian")
    parser.add_argument("--eps", type=float, default=1.0)
    parser.add_argument("--rec", type=float, default=3.0)
    parser.add_argument("--adv", type=float, default=0.3)
    parser.add_argument("--game", type=int, default=500, help="steps of the game")
    parser.add_argument(
        "--rounds", type=int, default=600, help="of a client's training"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--each", type=int, default=8, help="images attacked a seed")
    parser.add_argument("--attack-steps", type=int, default=200)
    parser.add_argument("--inverter-steps", type=int, default=400)
    parser.add_argument(
        "--utility",
        choices=("clean", "perturbed"),
        default="clean",
        help="on which test images accuracies are matched",
    )
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--png", type=Path)
    parser.add_argument(
        "--perturber", type=Path, help="an .npz: read if there, else made"
    )
    args = parser.parse_args(argv)
    folder = Path(os.environ.get("JAXINV_DATA", ""))
    if not (folder / "cifar10_subset.npz").exists():
        parser.error("JAXINV_DATA must name the folder of the data sets")
    study = Study(args, load(folder, args.data))
    study.told["command"] = " ".join(["python -m bench perturbation", *argv])
    judges(study)
    releases = matched(study, _perturber(study))
    attacked(study, releases)
    found, refused = comparisons(study.told["attacks"])
    study.told |= {"comparisons": found, "refused": refused}
    study.done("comparisons")
    return 0


def _perturber(study: Study) -> Perturber:
    """Of the file that was named, if it is there; else fitted, and written to it."""
    path = study.args.perturber
    if path is None or not path.exists():
        made = fitted(study)
        if path is not None:
            save(made, path)
        return made
    study.told["perturber"] = "of an earlier run of the same command"
    before = study.before
    study.told |= {name: before[name] for name in FITTED if name in before}
    return read(path)
