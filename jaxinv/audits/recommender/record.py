"""The record of an audit of a recommender, with an entry for each user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxinv.audits.facts import number, versions
from jaxinv.audits.recommender.attacks import ATTACKS
from jaxinv.audits.recommender.config import AuditConfig
from jaxinv.audits.settings import settings
from jaxinv.data.ratings import Ratings
from jaxinv.models.recommenders import RatingScale

MATCHED = 1e-6
"""A gradient loss below this is a perfect match; where ratings are wrong all the same,
that is the fault of what was observed, not of the search."""


def record(
    config: AuditConfig,
    ratings: Ratings,
    scale: RatingScale,
    num_fitting: int,
    resolved: dict[str, int],
    compile_s: float,
    users: list[dict[str, Any]],
) -> dict[str, Any]:
    """What `report.json` holds, ready for JSON.

    Args:
      config: what was asked.
      ratings: the data it was asked of.
      scale: read from the data.
      num_fitting: users with enough ratings, of which some were attacked.
      resolved: what defaults came to, by the names of their settings.
      compile_s: seconds spent compiling.
      users: entries of `judge`; fewer than asked after an interrupt.
    """
    assert config.attack is not None
    row = ATTACKS[config.attack]
    known = config.embedding == "known"
    # Rows of zeros, without noise on them, tell by themselves.
    hidden = config.all_items and config.noise > 0
    low, high = (scale.high * end for end in scale.box())
    stopped = any(user["status"] == "INTERRUPTED" for user in users)
    return {
        "case": "recommender",
        "attack": config.attack,
        "attack_title": row.title,
        "attack_paper": row.paper,
        "model": config.model,
        "defense": f"Gaussian noise of share {config.noise:g}"
        if config.noise
        else "none",
        "knowledge": [
            *("parameters", "updates"),
            *([] if hidden else ["items"]),
            "scale",
            *(["embedding"] if known else []),
        ],
        "withheld": [
            "ratings",
            *(["items"] if hidden else []),
            *([] if known else ["embedding"]),
        ],
        "seed": config.seed,
        "device": str(jax.devices()[0].device_kind),
        "versions": versions(),
        "compile_s": number(compile_s),
        "run_s": number(sum(user["seconds"] for user in users)),
        "dataset": {
            "name": ratings.name,
            "num_users": ratings.num_users,
            "num_items": ratings.num_items,
            "num_ratings": len(ratings.rating),
            "num_fitting": num_fitting,
            "scale": {
                "low": low,
                "high": high,
                "step": 1.0 if scale.implicit else scale.step,
            },
        },
        "command": config.command(),
        "settings": settings(config, **resolved),
        "interrupted": stopped or len(users) < min(config.users, num_fitting),
        "summary": summary(users),
        "users": users,
    }


def summary(users: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over users, entries of `judge`: counts, shares of them and means."""
    mean, half = _interval([user["mae"] for user in users])
    wrong = [user["exact"] != 1 for user in users]
    matched = [(user["gradient_loss"] or 0) < MATCHED for user in users]
    statuses = [user["status"] for user in users]
    # F1 scores: of the rated items, and of interactions in an audit of those.
    f1 = {
        f"{name}_mean": _interval([user[name] for user in users])[0]
        for name in ("items_f1", "f1")
        if name in users[0]
    }
    return {
        "users": len(users),
        "exact_share": 1 - float(np.mean(wrong)),
        "mae_mean": mean,
        "mae_half_width": half,
        "guess_mae_mean": _interval([user["guess_mae"] for user in users])[0],
        "guess_exact_mean": _interval([user["guess_exact"] for user in users])[0],
        "matched_but_wrong_share": float(np.mean(np.logical_and(wrong, matched))),
        **f1,
        "gave_up_share": statuses.count("GAVE_UP") / len(users),
        "statuses": {name: statuses.count(name) for name in sorted(set(statuses))},
    }


def _interval(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean of what is a number, and half the width of its 95 % interval."""
    there = np.array([value for value in values if value is not None])
    if not len(there):
        return None, None
    mean = float(there.mean())
    if len(there) < 2:
        return mean, None
    return mean, float(1.96 * there.std(ddof=1) / len(there) ** 0.5)
