"""The record of an audit: settings, knowledge, times, and an entry for each example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxinv import attacks
from jaxinv.attacks.base import Status
from jaxinv.audits.convergence import convergence
from jaxinv.audits.facts import number, versions
from jaxinv.audits.images.attacker import ABOUT, Attacker
from jaxinv.audits.images.config import GRANTABLE, AuditConfig
from jaxinv.audits.images.judge import Judged
from jaxinv.audits.settings import settings
from jaxinv.data import ImageData
from jaxinv.defenses import DEFENSES


def record(
    config: AuditConfig, data: ImageData, attackers: list[Attacker]
) -> tuple[dict[str, Any], Attacker]:
    """What `report.json` holds, ready for JSON, and whom its examples are of.

    Args:
      config: what was asked.
      data: the images it was asked of.
      attackers: with what was judged, in order; fewer than asked after an interrupt. A
        defence is worth what the strongest one leaves of it, so the report's examples
        and summary are those of the highest mean PSNR.
    """
    entry = attacks.ATTACKS[config.attack]
    strongest = max(attackers, key=Attacker.psnr)
    runner, batches = strongest.runner, strongest.judged
    num_steps = runner.num_steps
    num_restarts = config.restarts if num_steps else 1
    examples = [example for b in batches for example in b.examples]
    run_s = sum(b.run.seconds for b in batches)
    work = sum(b.run.restart_iterations for b in batches)
    knowledge = list(strongest.granted)
    if strongest.name == "adaptive":
        knowledge.append("defense")
    report = {
        "case": "images",
        "attack": config.attack,
        "attack_title": entry.title,
        "attack_paper": entry.paper,
        "target": config.target,
        "defense": " + ".join(config.defense) or "none",
        "defenses": [
            {
                "name": name,
                "title": DEFENSES[name].title,
                "paper": DEFENSES[name].paper,
                "options": options,
            }
            for name, options in config.chain()
        ],
        "epsilon": _epsilon(config),
        "attacker": strongest.name if config.defense else None,
        "attackers": [_of_attacker(one, data) for one in attackers],
        "knowledge": knowledge,
        "withheld": [name for name in GRANTABLE if name not in config.granted()],
        "seed": config.seed,
        "restarts": num_restarts,
        "iterations": num_steps,
        "batch_size": config.batch_size,
        "num_examples": len(examples),
        "device": str(jax.devices()[0].device_kind),
        "versions": versions(),
        "compile_s": number(runner.compile_s),
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
        "summary": summary(batches, data),
        "convergence": [convergence(b.run) for b in batches],
        "examples": examples,
    }
    return report, strongest


def summary(batches: list[Judged], data: ImageData) -> dict[str, float | None]:
    """The numbers of all examples as one."""
    examples = [example for b in batches for example in b.examples]
    statuses = np.concatenate(
        [np.asarray(b.run.found.stats["statuses"]).ravel() for b in batches]
    )

    def over(name: str, reduce: Callable = np.mean) -> float | None:
        values = [e[name] for e in examples if e.get(name) is not None]
        return number(reduce(values)) if values else None

    return {
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
    }


def _of_attacker(one: Attacker, data: ImageData) -> dict[str, Any]:
    examples = [example for b in one.judged for example in b.examples]
    return {
        "name": one.name,
        "about": ABOUT[one.name],
        "knowledge": list(one.granted),
        "summary": summary(one.judged, data),
        "psnr": [e["psnr"] for e in examples],
        "ssim": [e["ssim"] for e in examples],
    }


def _epsilon(config: AuditConfig) -> dict[str, Any] | None:
    spent = config.epsilon()
    if spent is None:
        return None
    return {
        "epsilon": number(spent),
        "delta": config.delta,
        "rounds": config.dp_rounds,
        "sampling_rate": config.sampling_rate,
        "accountant": "Renyi, Poisson sampling, examples added or removed",
    }
