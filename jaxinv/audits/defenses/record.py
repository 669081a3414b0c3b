"""The record of a comparison: one entry for each defence, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxinv.attacks import ATTACKS
from jaxinv.audits.defenses.config import NONE, CompareConfig
from jaxinv.audits.defenses.utility import Utility
from jaxinv.audits.facts import interval, number, versions
from jaxinv.audits.images.audit import AuditResult
from jaxinv.data import ImageData

CEILING = 50.0
"""dB; an image recovered better than this counts as this: no eye tells them apart, and
one exact number of many should not make their mean."""


@dataclass
class Row:
    """One defence."""

    name: str
    """As it was asked for."""
    audits: list[AuditResult]
    """One for each attack."""
    utility: Utility
    """Of the trainings under it."""
    seconds: tuple[float, float]
    """Spent on the attacks, and on the trainings."""


def record(
    config: CompareConfig, data: ImageData, rows: list[Row], num_test: int
) -> dict[str, Any]:
    """What `report.json` holds, ready for JSON.

    Args:
      config: what was asked.
      data: the images it was asked of.
      rows: what was found, fewer than asked after an interrupt.
      num_test: examples behind each accuracy.
    """
    entries = [_row(config, row) for row in rows]
    plain = next((e for e in entries if e["defense"] == NONE), None)
    for entry in entries:
        loss = None if plain is None else plain["accuracy"] - entry["accuracy"]
        entry["accuracy_loss"] = loss
        entry["pareto"] = not any(_dominates(other, entry) for other in entries)
    training = config.training
    return {
        "case": "defences",
        "attack": ", ".join(config.attacks),
        "attack_title": ", ".join(ATTACKS[name].title for name in config.attacks),
        "attack_paper": "; ".join(ATTACKS[name].paper for name in config.attacks),
        "target": config.target,
        "defense": ", ".join(config.defenses),
        "knowledge": [] if "labels" in config.withhold else ["labels"],
        "withheld": list(config.withhold),
        "seed": config.seed,
        "rows": entries,
        "num_examples": config.num_examples,
        "chance": 1.0 / len(data.x),
        "num_test": num_test,
        "ceiling": CEILING,
        "training": {
            "rounds": training.rounds,
            "clients": training.clients,
            "batch_size": training.batch_size,
            "learning_rate": training.learning_rate,
            "protected_rounds": training.protected_rounds,
            "seeds": training.seeds,
        },
        "device": str(jax.devices()[0].device_kind),
        "versions": versions(),
        "compile_s": number(
            sum(a.report["compile_s"] or 0 for row in rows for a in row.audits)
        ),
        "run_s": number(sum(sum(row.seconds) for row in rows)),
        "dataset": {"name": data.name, "num_pool": len(data.x)},
        "command": config.command(),
        "settings": {
            "attacks": list(config.attacks),
            "iterations": config.iterations,
            "restarts": config.restarts,
            "batch_size": config.batch_size,
            "draws": config.draws,
            **{f"target.{k}": v for k, v in config.target_options.items()},
            **{f"trained.{k}": v for k, v in config.trained_options.items()},
            **{f"attack.{k}": v for k, v in config.attack_options.items()},
        },
        "interrupted": len(rows) < len(config.rows()),
    }


def _row(config: CompareConfig, row: Row) -> dict[str, Any]:
    accuracy = np.asarray(row.utility.accuracy, float)

    def capped(one: dict[str, Any]) -> list[float]:
        return [min(p, CEILING) for p in one["psnr"] if p is not None]

    attempts = [
        {
            "attack": audit.report["attack"],
            "attacker": one["name"],
            "psnr": number(np.mean(capped(one))) if capped(one) else None,
            "psnr_interval": interval(capped(one)),
            "ssim": one["summary"]["ssim_mean"],
            "identified": one["summary"]["identified"],
            "labels": one["summary"]["label_accuracy"],
        }
        for audit in row.audits
        for one in audit.report["attackers"]
    ]
    strongest = max(
        attempts, key=lambda one: -np.inf if one["psnr"] is None else one["psnr"]
    )
    return {
        "defense": row.name,
        "defenses": row.audits[0].report["defenses"],
        "epsilon": row.audits[0].report["epsilon"],
        "attempts": attempts,
        "strongest": {**strongest},
        "accuracy": float(accuracy[:, -1].mean()),
        "accuracy_interval": interval(accuracy[:, -1].tolist()),
        "accuracy_of_seeds": accuracy[:, -1].tolist(),
        "curve": {
            "rounds": np.asarray(row.utility.rounds).tolist(),
            "accuracy": accuracy.mean(0).tolist(),
        },
        "attack_s": number(row.seconds[0]),
        "training_s": number(row.seconds[1]),
    }


def _dominates(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether it is at least as accurate and as private, and more of either."""
    a, b = one["strongest"]["psnr"], other["strongest"]["psnr"]
    a, b = (-np.inf if p is None else p for p in (a, b))
    better = one["accuracy"] >= other["accuracy"] and a <= b
    return better and (one["accuracy"] > other["accuracy"] or a < b)
