"""From shares of types to numbers of nodes: the integer side of `multiplicities`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.optimize
from scipy.optimize import LinearConstraint

from jaxinv.attacks.grain.multiplicities import (
    CONFIDENT,
    Counts,
    Entry,
    System,
    handshakes,
    loops,
)
from jaxinv.attacks.grain.types import Types


def proportional_counts(
    found: System, solution: np.ndarray, types: Types, most_nodes: int
) -> Iterator[Counts]:
    """Sets of nodes in the proportions of the only solution, the smallest first.

    All of them have the same gradient: a mean over nodes does not count.
    """
    used = np.flatnonzero(solution > 1e-6)
    part = found.matrix[:, used]
    errors = found.noise * np.linalg.norm(np.linalg.pinv(part), axis=1)
    exact = np.linalg.lstsq(part, found.target, rcond=None)[0]
    entries = Entry(found.entries.types[used], found.entries.labels[used])
    even = loops(types, entries)
    hands = handshakes(types, entries)
    for num in range(1, most_nodes + 1):
        scaled = num * exact
        counts = np.round(scaled)
        off = np.abs(scaled - counts)
        if (off > num * (CONFIDENT * errors + 1e-9)).any() or (off > 0.2).any():
            continue
        if counts.sum() != num or (counts < 1).any():
            continue
        if (hands @ counts).any() or (even @ counts % 2).any():
            continue
        yield nodes(entries, counts)


def nodes(entries: Entry, counts: np.ndarray) -> Counts:
    """One row per node."""
    times = counts.astype(int)
    return Counts(np.repeat(entries.types, times), np.repeat(entries.labels, times))


def integer_counts(
    found: System, types: Types, least_nodes: int, most_nodes: int, most: int
) -> Iterator[Counts]:
    """Sets of nodes where the shares are not determined: an integer program.

    Args:
      found: the system.
      types: of the last level.
      least_nodes: the smallest number of nodes to try.
      most_nodes: the largest.
      most: how many sets of one number of nodes at most.
    """
    left, values, right = np.linalg.svd(found.matrix, full_matrices=False)
    rank = int((values > CONFIDENT * found.noise).sum())
    share = (left[:, :rank].T @ found.target) / values[:rank]
    slack = CONFIDENT * found.noise / values[:rank] + 1e-7
    rows = right[:rank]
    kept = _supported(rows, share, slack, handshakes(types, found.entries))
    rows = rows[:, kept]
    entries = Entry(found.entries.types[kept], found.entries.labels[kept])
    hands, even = handshakes(types, entries), loops(types, entries)
    extra = np.zeros((len(rows), len(even)))
    # Columns are the counts, then half of the ends of each loop.
    wide = np.concatenate([rows, extra], 1)
    total = np.concatenate([np.ones(len(kept)), np.zeros(len(even))])[None]
    hands = np.concatenate([hands, np.zeros((len(hands), len(even)))], 1)
    pairs = np.concatenate([even, -2 * np.eye(len(even))], 1)
    rest = np.concatenate([hands, pairs])
    for num in range(least_nodes, most_nodes + 1):
        low: Any = num * (share - slack)
        high: Any = num * (share + slack)
        constraints = [
            LinearConstraint(wide, low, high),
            LinearConstraint(total, num, num),
            *([LinearConstraint(rest, 0, 0)] if len(rest) else []),
        ]
        for counts in _every(constraints, wide.shape[1], len(kept), num, most):
            yield nodes(entries, counts)


def _supported(
    rows: np.ndarray, share: np.ndarray, slack: np.ndarray, hands: np.ndarray
) -> np.ndarray:
    """Columns above 0 in some non-negative solution, by linear programs."""
    width = rows.shape[1]
    kept = np.zeros(width, bool)
    upper = np.concatenate([rows, -rows])
    bounds = np.concatenate([share + slack, slack - share])
    equal = {"A_eq": hands, "b_eq": np.zeros(len(hands))} if len(hands) else {}
    while not kept.all():
        answer = scipy.optimize.linprog(
            -(~kept).astype(float), A_ub=upper, b_ub=bounds, bounds=(0, 1), **equal
        )
        if answer.x is None:
            break
        fresh = (answer.x > 1e-5) & ~kept
        if not fresh.any():
            break
        kept |= answer.x > 1e-5
    return np.flatnonzero(kept)


def _every(
    constraints: list, size: int, width: int, num: int, most: int
) -> Iterator[np.ndarray]:
    """Every integer point, by splitting what is left around each one found."""
    boxes: list[tuple[Any, Any]] = [(np.zeros(size), np.full(size, 2.0 * num + 2))]
    given = 0
    while boxes and given < most:
        low, high = boxes.pop()
        answer = scipy.optimize.milp(
            np.zeros(size),
            constraints=constraints,
            bounds=scipy.optimize.Bounds(low, high),
            integrality=np.ones(size),
            options={"time_limit": 10.0},
        )
        if answer.x is None:
            continue
        point = np.round(answer.x)
        yield point[:width]
        given += 1
        for i in range(width):
            for a, b in ((low[i], point[i] - 1), (point[i] + 1, high[i])):
                if a <= b:
                    lower, upper = low.copy(), high.copy()
                    lower[:i] = upper[:i] = point[:i]
                    lower[i], upper[i] = a, b
                    boxes.append((lower, upper))
