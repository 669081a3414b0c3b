"""Facts that every record of an audit holds alike."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

_MANY = 10_000
"""Values whose mean is normal for every purpose here."""


def number(value: Any) -> float | None:
    """A float for JSON, which has no NaN and no infinity."""
    plain = float(value)
    return plain if np.isfinite(plain) else None


def interval(values: Sequence[float], *, level: float = 0.95) -> list[float] | None:
    """Where the mean lies, `[low, high]`, by the percentile bootstrap.

    Args:
      values: at least two, else there is no interval and None is returned.
      level: of confidence.
    """
    found = np.asarray(values, float)
    if found.size < 2:
        return None
    if found.size > _MANY:
        # As the bootstrap would have it, without 2,000 times the memory.
        half = (
            NormalDist().inv_cdf((1 + level) / 2) * found.std(ddof=1) / found.size**0.5
        )
        return [float(found.mean() - half), float(found.mean() + half)]
    rng = np.random.default_rng(0)
    means = found[rng.integers(found.size, size=(2000, found.size))].mean(1)
    ends = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return [float(end) for end in ends]


def versions() -> dict[str, str]:
    """Of Python and of the packages that the numbers depend on."""
    names = ("jaxinv", "jax", "jaxlib", "flax", "optax", "numpy")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found
