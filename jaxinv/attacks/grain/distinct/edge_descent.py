"""Descent on edges between 0 and 1: what both smooth searches for edges share."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import scipy.optimize


def descended(
    objective: Callable[[np.ndarray], tuple[jax.Array, jax.Array]],
    start: np.ndarray,
    free: np.ndarray,
    size: int,
    max_steps: int,
) -> np.ndarray:
    """`[n, n]` where L-BFGS ends, symmetric and between 0 and 1.

    Args:
      objective: of `[size, size]` to its value and slope; nodes past n have no edges.
      start: `[n, n]`, symmetric.
      free: `[n, n]` bool, entries that may move.
      size: what the objective was compiled for, at least n.
      max_steps: of L-BFGS.
    """
    upper = np.triu_indices(len(start), 1)
    low, high = np.where(free[upper], [[0.0], [1.0]], start[upper])

    def value(edges: np.ndarray) -> tuple[float, np.ndarray]:
        whole = np.zeros((size, size))
        whole[upper] = edges
        total, slope = objective(whole + whole.T)
        slope = np.asarray(slope)
        return float(total), (slope + slope.T)[upper]

    answer = scipy.optimize.minimize(
        value,
        start[upper],
        jac=True,
        method="L-BFGS-B",
        bounds=scipy.optimize.Bounds(low, high),
        options={
            "maxiter": max_steps,
            "maxfun": 2 * max_steps,
            "ftol": 1e-15,
            "gtol": 1e-12,
        },
    )
    found = np.zeros(start.shape)
    found[upper] = answer.x
    return found + found.T
