"""The record of an audit of an update: files, client, checks, evidence, examples."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np

from jaxinv import attacks
from jaxinv.audits.convergence import convergence
from jaxinv.audits.facts import number, versions
from jaxinv.audits.images.attacker import ABOUT, Attacker
from jaxinv.audits.images.judge import Judged
from jaxinv.audits.images.record import summary
from jaxinv.audits.settings import settings
from jaxinv.audits.update.config import UpdateConfig
from jaxinv.audits.update.evidence import Evidence
from jaxinv.data import ImageData
from jaxinv.defenses import DEFENSES, asked
from jaxinv.exchange import ReceivedUpdate


@dataclass
class Outcome:
    """What became of one attacker."""

    attacker: Attacker
    evidence: Evidence
    """On the update that came in."""
    control: Evidence | None
    """On the wrong one; None where the user stopped before."""
    judged: Judged | None
    """Beside the truth, where there is one."""


def record(
    config: UpdateConfig,
    received: ReceivedUpdate,
    outcomes: list[Outcome],
    data: ImageData | None,
) -> tuple[dict[str, Any], Outcome]:
    """What `report.json` holds, ready for JSON, and whose pictures it shows.

    Args:
      config: what was asked.
      received: what came in.
      outcomes: of the attackers, the blind one first.
      data: the truth, and the pool it is told apart from; None without one.
    """
    entry, client = attacks.ATTACKS[config.attack], received.client
    best = max(outcomes, key=_strength)
    runner, run = best.attacker.runner, best.evidence.run
    chain = [asked(words) for words in client.defenses]
    knowledge = list(best.attacker.granted)
    if best.attacker.name == "adaptive":
        knowledge.append("defense")
    runs = [e.run for o in outcomes for e in (o.evidence, o.control) if e is not None]
    seconds = sum(one.seconds for one in runs)
    steps = runner.num_steps
    report = {
        "case": "update",
        "attack": config.attack,
        "attack_title": entry.title,
        "attack_paper": entry.paper,
        "model": config.model,
        "defense": " + ".join(client.defenses) or "none",
        "defenses": [
            {
                "name": name,
                "title": DEFENSES[name].title,
                "paper": DEFENSES[name].paper,
                "options": options,
            }
            for name, options in chain
        ],
        "client": _client(received),
        "files": {"params": config.params, "update": config.update},
        "findings": [finding._asdict() for finding in received.findings],
        "map": _map(received),
        "compared": received.compared,
        "attacker": best.attacker.name if chain else None,
        "attackers": [
            {
                "name": one.attacker.name,
                "about": ABOUT[one.attacker.name],
                "evidence": one.evidence.facts(),
                "control": None if one.control is None else one.control.facts(),
            }
            for one in outcomes
        ],
        "evidence": best.evidence.facts(),
        "control": None if best.control is None else best.control.facts(),
        "control_of": config.other
        or "this update, its numbers permuted in each tensor",
        "truth": None if data is None else {"name": data.name, "num_pool": len(data.x)},
        "knowledge": knowledge,
        "withheld": [] if "labels" in knowledge else ["labels"],
        "seed": config.seed,
        "restarts": config.restarts if steps else 1,
        "iterations": steps,
        "num_examples": client.examples,
        "device": str(jax.devices()[0].device_kind),
        "versions": versions(),
        "compile_s": number(sum(o.attacker.runner.compile_s for o in outcomes)),
        "run_s": number(seconds),
        "restart_iterations_per_s": number(
            sum(one.restart_iterations for one in runs) / max(seconds, 1e-9)
        ),
        "dataset": {
            "name": config.update,
            "num_pool": 0 if data is None else len(data.x),
        },
        "command": config.command(),
        "settings": settings(config, iterations=steps),
        "interrupted": run.interrupted or best.control is None,
        # Of this update, and of the wrong one.
        "convergence": [
            convergence(one.run)
            for one in (best.evidence, best.control)
            if one is not None
        ],
        "examples": [],
        "summary": {},
    }
    if best.judged is not None and data is not None:
        report["examples"] = best.judged.examples
        report["summary"] = summary([best.judged], data)
    return report, best


def _strength(outcome: Outcome) -> float:
    """By the truth where there is one, else by how well the starts agree."""
    if outcome.judged is not None:
        found = [e["psnr"] for e in outcome.judged.examples if e["psnr"] is not None]
        return float(np.mean(found)) if found else -np.inf
    if outcome.evidence.agreement is not None:
        return outcome.evidence.agreement
    return -outcome.evidence.unexplained


def _client(received: ReceivedUpdate) -> dict[str, Any]:
    """What was said of the client, so that the report says what it was made from."""
    client, spec = received.client, received.target.spec
    found: dict[str, Any] = {
        "sent": client.sent,
        "examples": client.examples,
        "shape": list(spec.shape),
        "num_classes": spec.num_classes,
        "mean": list(spec.mean),
        "std": list(spec.std),
        "reduction": client.reduction,
        "batch_norm": client.batch_norm,
        "labels": None if client.labels is None else list(client.labels),
        "defenses": list(client.defenses),
    }
    if client.batch_norm == "batch":
        names = ("batch_norm_momentum", "batch_stats")
        found |= {name: getattr(client, name) for name in names}
    if client.local is not None:
        steps, size = client.local.shape(client.examples)
        found |= {"steps": steps, "step_size": size} | {
            name: value
            for name, value in asdict(client.local).items()
            if name in ("learning_rate", "optimizer", "momentum", "order")
        }
    return found


def _map(received: ReceivedUpdate) -> list[dict[str, Any]]:
    pairs = received.layout.pairs
    return [
        {
            "file": p.theirs,
            "model": p.ours,
            "form": p.form
            + (f" of {p.channels} channels" if p.form == "flatten" else ""),
            "paired_by": p.how,
        }
        for p in sorted(pairs, key=lambda p: p.ours)
    ]
