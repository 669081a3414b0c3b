"""What a sweep of images can be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from jaxinv import attacks
from jaxinv.audits.defenses.record import CEILING
from jaxinv.audits.facts import interval, number
from jaxinv.audits.images import AuditConfig
from jaxinv.errors import InputError
from jaxinv.sweeps.kinds.base import Kind, Point
from jaxinv.sweeps.kinds.images.job import IMAGE_COLUMNS
from jaxinv.sweeps.kinds.images.scenes import ImageScenes


def _config(attack: str, chain: tuple[str, ...], seed: int, **given: Any):
    config = AuditConfig(attack=attack, seed=seed, defense=chain, **given)
    if config.iterations is not None and not attacks.has_loop(attack):
        raise InputError(
            f"iterations is {config.iterations}; {attack} is a closed form and takes "
            "no steps"
        )
    return config


def _known(points: Sequence[Point]) -> list[str]:
    granted = [set(point.config.granted()) for point in points]
    return sorted(set.intersection(*granted))


def _line(
    rows: Sequence[Mapping[str, Any]], sizes: Mapping[str, int]
) -> dict[str, Any]:
    psnr = [row["psnr"] for row in rows if row["psnr"] is not None]
    capped = [min(value, CEILING) for value in psnr]
    ssim = [row["ssim"] for row in rows if row["ssim"] is not None]
    right = [
        row["label_true"] == row["label_found"]
        for row in rows
        if row["label_true"] is not None
    ]
    return {
        "psnr": number(np.mean(capped)) if psnr else None,
        "psnr_interval": interval(capped),
        "psnr_best": number(np.max(psnr)) if psnr else None,
        "ssim": number(np.mean(ssim)) if ssim else None,
        "chance": 1.0 / sizes[rows[0]["data"]],
        "identified": sum(bool(row["identified"]) for row in rows),
        "labels": float(np.mean(right)) if right else None,
    }


_OF_ATTACK = {"restarts", "iterations", "draws", "withhold", "grant", "precision"}
_PLACED = {"attack", "seed", "defense", "halving", "target_options", "attack_options"}

IMAGES = Kind(
    unit="example",
    config=_config,
    settings=AuditConfig,
    owner="target",
    of_case=frozenset({f.name for f in fields(AuditConfig)} - _PLACED),
    of_attack=frozenset(_OF_ATTACK),
    attacks=attacks.ATTACKS,
    takes_options=True,
    defended=True,
    columns=IMAGE_COLUMNS,
    pictured=("true", "recovered"),
    scenes=ImageScenes,
    known=_known,
    line=_line,
)
