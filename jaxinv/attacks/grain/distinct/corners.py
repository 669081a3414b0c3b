"""Rows of zeros and ones in a span: vertices of a polytope.

What lies between 0 and 1 in a space of n dimensions is a polytope, and points of zeros
and ones are vertices of it. A linear program meets a random vertex, seldom of zeros and
ones where many features are shared; an integer program meets nothing else. (Ours.)
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import scipy.linalg
import scipy.optimize

LINEAR = 12
"""Linear programs for each node, before integer ones."""
INTEGER = 12
"""Integer programs for each node, before giving up."""
SECONDS = 10.0
"""Of one integer program."""
SLACK = 1e-4
"""Of the polytope, for rounding."""
LOOSE = 1e-3
"""The same of an integer program, which keeps to it but to 1e-6."""
WHOLE = 0.02
"""How far from 0 and 1 an entry of a node's features may be found."""
INFEASIBLE = 2
"""What SciPy says of a program that has no solution."""


def corners(
    columns: np.ndarray, num: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Vertices of zeros and ones, `[P + 1]` each: first those easily met.

    Args:
      columns: `[P + 1, K]`, sums of slopes of the nodes that have a column.
      num: how many nodes.
      rng: draws the directions to go in.
    """
    basis, few, first = _reduced(columns, num)
    met: list[np.ndarray] = []
    for attempt in range(LINEAR + INTEGER):
        # The node with the fewest features, in random units, that has a certain one.
        weights = rng.uniform(0.5, 1.5, size=len(few))
        chosen = few[rng.integers(len(few))]
        if attempt < LINEAR:
            point = _linear(few, basis[-1], weights, chosen)
        else:
            past = [row[first] for row in met]
            point, _ = _integer(few, basis[-1], weights, past, SECONDS)
        if point is None:
            continue
        exact = basis @ point
        row = np.round(exact)
        if np.abs(exact - row).max() > WHOLE:
            continue
        if any((row == other).all() for other in met):
            continue
        met.append(row)
        yield row


def _linear(
    few: np.ndarray, whole: np.ndarray, weights: np.ndarray, chosen: np.ndarray
) -> np.ndarray | None:
    """`[num]`, the vertex of the polytope with the least sum that has a column."""
    answer = scipy.optimize.linprog(
        few.T @ weights,
        A_ub=np.concatenate([few, -few, np.stack([whole, -whole, -chosen])]),
        b_ub=np.r_[
            np.repeat([1 + SLACK, SLACK], len(few)), 1 + SLACK, SLACK - 1, SLACK - 1
        ],
        bounds=(None, None),
    )
    return answer.x


def _integer(
    few: np.ndarray,
    whole: np.ndarray,
    weights: np.ndarray,
    met: list[np.ndarray],
    seconds: float,
) -> tuple[np.ndarray | None, bool]:
    """`[num]`, the point of zeros and ones with the least sum, of those not yet met.

    As many columns as nodes say what the others are.

    Args:
      few: `[p, num]`, rows of the basis.
      whole: `[num]`, of the constant.
      weights: `[p]`.
      met: `[p]` each.
      seconds: the limit.

    Returns:
      The point or None, and whether there is certainly none.
    """
    size, num = few.shape
    order = np.asarray(scipy.linalg.qr(few.T, pivoting=True, mode="r")[-1])
    few, weights = few[order], weights[order]
    leading = np.linalg.inv(few[:num])
    ties = np.concatenate([few[num:] @ leading, -np.eye(size - num)], 1)
    one = np.concatenate([whole @ leading, np.zeros(size - num)])[None]
    past = np.stack([point[order] for point in met]) if met else np.zeros((0, size))
    # At least one entry differs from each point met.
    least = np.r_[np.full(size - num, -LOOSE), 1 - LOOSE, 1 - past.sum(1)]
    most = np.r_[np.full(size - num, LOOSE), 1 + LOOSE, np.full(len(past), np.inf)]
    answer = scipy.optimize.milp(
        weights,
        constraints=scipy.optimize.LinearConstraint(
            np.concatenate([ties, one, 1 - 2 * past]), least, most
        ),
        integrality=np.ones(size),
        bounds=scipy.optimize.Bounds(0, 1),
        options={"time_limit": seconds},
    )
    if answer.x is None:
        return None, answer.status == INFEASIBLE
    return leading @ np.round(answer.x[:num]), False


def every_corner(
    columns: np.ndarray, num: int, most: int, seconds: float
) -> tuple[np.ndarray, bool]:
    """All rows of zeros and ones, and whether it is all.

    Args:
      columns: `[P + 1, K]`, the last row of what all have.
      num: rank of `columns`.
      most: rows after which to stop.
      seconds: the same of time.

    Returns:
      `[R, P + 1]`, and a bool.
    """
    until = time.monotonic() + seconds
    basis, few, first = _reduced(columns, num)
    met: list[np.ndarray] = []
    while len(met) < most:
        left = until - time.monotonic()
        past = [row[first] for row in met]
        weights = np.ones(len(few))
        if left <= 0:
            break
        point, none = _integer(few, basis[-1], weights, past, left)
        if point is None:
            return np.array(met).reshape(-1, len(basis)), none
        row = np.round(basis @ point)
        if np.abs(basis @ point - row).max() > WHOLE:
            break
        met.append(row)
    return np.array(met).reshape(-1, len(basis)), False


def _reduced(
    columns: np.ndarray, num: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`[P + 1, num]` basis, `[p, num]` its rows each once, `[p]` where those are."""
    basis = np.linalg.svd(columns, full_matrices=False)[0][:, :num]
    # Columns of the same nodes have the same row.
    _, first = np.unique(np.round(basis / SLACK), axis=0, return_index=True)
    first = np.sort(first)
    return basis, basis[first], first
