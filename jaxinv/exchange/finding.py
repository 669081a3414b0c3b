"""One check of an update, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

Leaves = Mapping[str, np.ndarray]
"""Arrays by path."""
VERDICTS = ("ok", "doubtful", "impossible")


class Finding(NamedTuple):
    """One check and what came of it."""

    check: str
    """Which: "finite", "changed", "kind", "sign", "scale", "rank", "digits" or
    "statistics"."""
    verdict: str
    """One of `VERDICTS`."""
    line: str
    """What was found, in one line."""


def count(n: int, what: str) -> str:
    """A number and what it counts, in the plural where it is not 1."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
