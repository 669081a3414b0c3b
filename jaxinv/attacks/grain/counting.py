"""From shares of types to numbers of nodes: the integer side of `multiplicities`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.optimize

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
    found: System, types: Types, most_nodes: int, most: int
) -> Iterator[Counts]:
    """Sets of nodes where the shares are not determined: an integer program.

    Args:
      found: the system.
      types: of the last level.
      most_nodes: the largest number of nodes to try.
      most: how many sets of one number of nodes at most.
    """
    left, values, right = np.linalg.svd(found.matrix, full_matrices=False)
    rank = int((values > CONFIDENT * found.noise).sum())
    rows = right[:rank]
    share = (left[:, :rank].T @ found.target) / values[:rank]
    slack = CONFIDENT * found.noise / values[:rank] + 1e-7
    hands = handshakes(types, found.entries)
    even = loops(types, found.entries)
    width = found.matrix.shape[1]
    for num in range(1, most_nodes + 1):
        # The largest values first: columns are the counts, then half of each loop.
        equal = [
            scipy.optimize.LinearConstraint(
                _wide(rows, len(even)), num * (share - slack), num * (share + slack)
            ),
            scipy.optimize.LinearConstraint(
                _wide(np.ones((1, width)), len(even)), num, num
            ),
        ]
        if len(hands):
            equal.append(scipy.optimize.LinearConstraint(_wide(hands, len(even)), 0, 0))
        if len(even):
            pairs = np.concatenate([even, -2 * np.eye(len(even))], 1)
            equal.append(scipy.optimize.LinearConstraint(pairs, 0, 0))
        for counts in _every(equal, width + len(even), width, num, most):
            yield nodes(found.entries, counts)


def _wide(matrix: np.ndarray, extra: int) -> np.ndarray:
    return np.concatenate([matrix, np.zeros((len(matrix), extra))], 1)


def _every(
    constraints: list, size: int, width: int, num: int, most: int
) -> Iterator[np.ndarray]:
    """Every integer point, by splitting what is left around each one found."""
    boxes = [(np.zeros(size), np.full(size, float(2 * num + 2)))]
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
