"""The winner among the starts of a job, as they end one after another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxinv.attacks.base import Reconstruction


class Winner(NamedTuple):
    """The best start of a job so far, and what is known of the others."""

    found: Reconstruction
    """On the host."""
    scores: list[float]
    """Of the starts that have ended, in their order; infinite for one that diverged."""
    statuses: list[int]


def better(before: Winner | None, found: Reconstruction) -> Winner:
    """The winner after one more start has ended."""
    score = float(found.score)
    score = np.inf if np.isnan(score) else score
    old = before or Winner(found, [], [])
    first = before is None or score < min(old.scores)
    return Winner(
        found if first else old.found,
        [*old.scores, score],
        [*old.statuses, int(found.status)],
    )
