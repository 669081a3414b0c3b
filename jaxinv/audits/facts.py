"""Facts that every record of an audit holds alike."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

import numpy as np


def number(value: Any) -> float | None:
    """A float for JSON, which has no NaN and no infinity."""
    plain = float(value)
    return plain if np.isfinite(plain) else None


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
