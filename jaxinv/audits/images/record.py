"""The record of an audit: settings, knowledge, times, and an entry for each example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxinv import attacks
from jaxinv.attacks.base import Status
from jaxinv.audits.facts import number, versions
from jaxinv.audits.images.config import GRANTABLE, AuditConfig
from jaxinv.audits.images.judge import Judged
from jaxinv.audits.settings import settings
from jaxinv.data import ImageData


def record(
    config: AuditConfig,
    data: ImageData,
    num_steps: int,
    num_restarts: int,
    compile_s: float,
    batches: list[Judged],
) -> dict[str, Any]:
    """What `report.json` holds, ready for JSON.

    Args:
      config: what was asked.
      data: the images it was asked of.
      num_steps: the attack's steps in a full run.
      num_restarts: starts it took for each batch.
      compile_s: seconds spent compiling.
      batches: what was judged, in order; fewer than asked after an interrupt.
    """
    entry = attacks.ATTACKS[config.attack]
    examples = [example for b in batches for example in b.examples]
    run_s = sum(b.run.seconds for b in batches)
    work = sum(b.run.restart_iterations for b in batches)
    statuses = np.concatenate(
        [np.asarray(b.run.found.stats["statuses"]).ravel() for b in batches]
    )

    def over(name: str, reduce: Callable = np.mean) -> float | None:
        values = [e[name] for e in examples if e.get(name) is not None]
        return number(reduce(values)) if values else None

    return {
        "case": "images",
        "attack": config.attack,
        "attack_title": entry.title,
        "attack_paper": entry.paper,
        "target": config.target,
        "defense": "none",
        "knowledge": list(config.granted()),
        "withheld": [name for name in GRANTABLE if name not in config.granted()],
        "seed": config.seed,
        "restarts": num_restarts,
        "iterations": num_steps,
        "batch_size": config.batch_size,
        "num_examples": len(examples),
        "device": str(jax.devices()[0].device_kind),
        "versions": versions(),
        "compile_s": number(compile_s),
        "run_s": number(run_s),
        # They differ where starts were dropped on the way, or a user stopped it.
        "restart_iterations": work,
        "restart_iterations_asked": num_restarts * num_steps * len(batches),
        "restart_iterations_per_s": number(work / run_s),
        "dataset": {"name": data.name, "num_pool": len(data.x)},
        "command": config.command(),
        "settings": settings(config, iterations=num_steps, restarts=num_restarts),
        "interrupted": any(b.run.interrupted for b in batches)
        or len(examples) < config.num_examples,
        "summary": {
            "psnr_median": over("psnr", np.median),
            "psnr_mean": over("psnr"),
            "ssim_mean": over("ssim"),
            "mse_mean": over("mse"),
            "lpips_mean": over("lpips"),
            "label_accuracy": float(
                np.mean([e["label_true"] == e["label_found"] for e in examples])
            ),
            "identified": over("identified"),
            "chance": 1.0 / len(data.x),
            "oracle_psnr_median": over("oracle_psnr", np.median),
            "diverged_share": float(np.mean(statuses == Status.DIVERGED)),
        },
        "examples": examples,
    }
