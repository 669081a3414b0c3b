"""What a sweep of recommenders can be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from jaxinv.audits.facts import interval, number
from jaxinv.audits.recommender import AuditConfig
from jaxinv.audits.recommender.attacks import ATTACKS
from jaxinv.sweeps.kinds.base import Kind, Point
from jaxinv.sweeps.kinds.recommender.job import USER_COLUMNS
from jaxinv.sweeps.kinds.recommender.scenes import RecommenderScenes

_MEANS = ("exact", "mae", "guess_mae", "guess_exact", "f1", "items_f1")


def _config(attack: str, chain: tuple[str, ...], seed: int, **given: Any):
    assert not chain  # refused before
    return AuditConfig(attack=attack, seed=seed, **given)


def _known(points: Sequence[Point]) -> list[str]:
    found = ["scale"]
    configs = [point.config for point in points]
    # Rows of zeros, without noise on them, tell by themselves.
    if not any(config.all_items and config.noise for config in configs):
        found.append("items")
    if all(config.embedding == "known" for config in configs):
        found.append("embedding")
    return found


def _line(
    rows: Sequence[Mapping[str, Any]], sizes: Mapping[str, int]
) -> dict[str, Any]:
    def mean(name: str) -> float | None:
        there = [row[name] for row in rows if row[name] is not None]
        return number(np.mean(there)) if there else None

    return {name: mean(name) for name in _MEANS} | {
        "exact_interval": interval(
            [row["exact"] for row in rows if row["exact"] is not None]
        ),
        "whole": sum(row["exact"] == 1 for row in rows),
        "underdetermined": sum(row["status"] == "UNDERDETERMINED" for row in rows),
    }


_OF_ATTACK = {"restarts", "iterations", "embedding"}
_PLACED = {"attack", "seed", "model_options", "attack_options"}
_OF_CASE = {f.name for f in fields(AuditConfig)} - _PLACED - _OF_ATTACK


RECOMMENDER = Kind(
    unit="user",
    config=_config,
    settings=AuditConfig,
    owner="model",
    of_case=frozenset(_OF_CASE),
    of_attack=frozenset(_OF_ATTACK),
    attacks=ATTACKS,
    takes_options=True,
    defended=False,
    columns=USER_COLUMNS,
    pictured=("true", "recovered"),
    scenes=RecommenderScenes,
    known=_known,
    line=_line,
)
