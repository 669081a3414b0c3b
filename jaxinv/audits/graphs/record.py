"""The record of an audit of graphs, with an entry for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxinv.audits.facts import number, versions
from jaxinv.audits.graphs.config import AuditConfig, MoleculesConfig
from jaxinv.audits.graphs.sources import Source
from jaxinv.audits.settings import settings

TITLE = "GRAIN"
PAPER = "after Drencheva et al., ICLR 2025, arXiv 2503.01838"
"""Of the attack."""

CERTIFICATES = ("unique", "ambiguous", "gave up")
FAILED = ("error", "observation")
"""Stages at which a graph was not attacked to the end; see `failure`."""


def record(
    config: AuditConfig,
    source: Source,
    compile_s: float,
    graphs: list[dict[str, Any]],
    controls: list[dict[str, Any]],
) -> dict[str, Any]:
    """What `report.json` holds, ready for JSON.

    Args:
      config: what was asked.
      source: the graphs it was asked of.
      compile_s: seconds spent compiling the model's start and first gradient.
      graphs: entries of `judge.judged`; fewer than asked after an interrupt.
      controls: entries of `judge.controlled`; likewise.
    """
    asked, own = len(source.graphs), config.limits()
    limits = {"candidates": own.candidates, "seconds": own.seconds}
    chemistry = isinstance(config, MoleculesConfig) and not config.no_chemistry
    wanted = min(config.controls, asked)
    return {
        "case": config.case,
        "unit": config.unit,
        "attack": "grain",
        "attack_title": TITLE,
        "attack_paper": PAPER,
        "model": config.model,
        "defense": _defense(config),
        "knowledge": [
            *("parameters", "gradient" if config.local_lr is None else "update"),
            "vocabulary",
            *([] if config.local_lr is None else ["local_training"]),
            *(["chemistry"] if chemistry else []),
        ],
        "withheld": ["nodes", "edges", "label"],
        "seed": config.seed,
        "device": str(jax.devices()[0].device_kind),
        "versions": versions(),
        "compile_s": number(compile_s),
        "run_s": number(sum(entry["seconds"] for entry in graphs)),
        "dataset": {
            "name": source.name,
            "about": source.about,
            "total": source.total,
            "num_graphs": asked,
            "num_features": source.spec.num_features,
            "num_classes": source.spec.num_classes,
        },
        "command": config.command(),
        "settings": settings(config, num=asked, **limits),
        "interrupted": len(graphs) < asked or len(controls) < wanted,
        "summary": summary(graphs, controls),
        "graphs": graphs,
        "controls": controls,
    }


def summary(
    graphs: Sequence[Mapping[str, Any]], controls: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Over graphs: counts, and means where one that was not recovered counts 0."""

    def total(name: str) -> int:
        return sum(bool(entry[name]) for entry in graphs)

    certificates = [entry["certificate"] for entry in graphs]
    means = ("gsm0", "gsm1", "gsm2", "node_share", "edge_share")
    return {
        "graphs": len(graphs),
        **{name.replace(" ", "_"): certificates.count(name) for name in CERTIFICATES},
        "exact": total("exact"),
        "exact_unique": sum(
            entry["exact"] and entry["certificate"] == "unique" for entry in graphs
        ),
        "in_class": total("in_class"),
        "wrong_unique": total("wrong_unique"),
        "full": total("full"),
        "labels_right": total("labels_right"),
        "failed": sum(entry["stage"] in FAILED for entry in graphs),
        **{
            f"{name}_mean": number(np.mean([entry[name] for entry in graphs]))
            for name in means
            if graphs
        },
        "controls": len(controls),
        "controls_solved": sum(entry["solved"] for entry in controls),
    }


def _defense(config: AuditConfig) -> str:
    parts = [f"Gaussian noise of share {config.noise:g}"] * bool(config.noise)
    parts += ["rounding to float16"] * config.float16
    return " and ".join(parts) or "none"
