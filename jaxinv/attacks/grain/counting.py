"""From shares of types to numbers of nodes: the integer side of `multiplicities`."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize

from jaxinv.attacks.grain.multiplicities import (
    CONFIDENT,
    STAGE,
    Counts,
    Entry,
    System,
    handshakes,
    loops,
)
from jaxinv.attacks.grain.outcome import GaveUp
from jaxinv.attacks.grain.types import Types

MOST_POINTS = 300_000
"""Combinations of the numbers that are free."""
ZERO = 1e-5
"""A share below it is rounding."""


def proportional_counts(
    found: System, solution: np.ndarray, types: Types, most_nodes: int
) -> Iterator[Counts]:
    """Sets of nodes in the proportions of the only solution, the smallest first.

    All of them have the same gradient: a mean over nodes does not count.
    """
    # One node in the largest graph has a share of 1 / most_nodes.
    used = np.flatnonzero(solution > 0.5 / most_nodes)
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
    found: System,
    types: Types,
    least_nodes: int,
    most_nodes: int,
    until: float = math.inf,
) -> Iterator[Counts]:
    """Sets of nodes where the shares are not determined, the smallest first.

    What is free lies in a space of few dimensions: as many counts are enumerated, the
    others follow from them.

    Args:
      found: the system.
      types: of the last level.
      least_nodes: the smallest number of nodes to try.
      most_nodes: the largest.
      until: when to give up, on the monotonic clock.

    Raises:
      GaveUp: too much is free, or it takes too long.
    """
    left, values, right = np.linalg.svd(found.matrix, full_matrices=False)
    rank = int((values > CONFIDENT * found.noise).sum())
    share = (left[:, :rank].T @ found.target) / values[:rank]
    slack = CONFIDENT * found.noise / values[:rank] + 1e-7
    rows, hands = right[:rank], handshakes(types, found.entries)
    polytope = _Polytope(*_solutions(rows, hands, share), until)
    kept = polytope.supported()
    if not len(kept):
        raise GaveUp(STAGE, "no non-negative numbers of nodes explain the gradient")
    entries = Entry(found.entries.types[kept], found.entries.labels[kept])
    hands, even = handshakes(types, entries), loops(types, entries)
    rows = rows[:, kept]
    base, free = _solutions(rows, hands, share)
    pivots = np.zeros(0, int)
    if free.shape[1]:
        pivots = np.asarray(scipy.linalg.qr(free.T, mode="r", pivoting=True)[-1])
        pivots = pivots[: free.shape[1]]
    ranges = [polytope.range(int(kept[p])) for p in pivots]
    lift = free @ np.linalg.inv(free[pivots])
    for num in range(least_nodes, most_nodes + 1):
        if time.monotonic() > until:
            raise GaveUp(STAGE, f"no time left at {num} nodes")
        sides = [np.arange(np.ceil(num * a - 0.1), num * b + 0.1) for a, b in ranges]
        if math.prod(map(len, sides)) > MOST_POINTS:
            raise GaveUp(
                STAGE,
                f"{free.shape[1]} numbers of nodes are free, which leaves more than "
                f"{MOST_POINTS:,} combinations",
            )
        choices = list(itertools.product(*sides))
        grid = np.array(choices, float).reshape(len(choices), len(sides))
        points = num * base + (grid - num * base[pivots]) @ lift.T
        counts = np.round(points)
        good = (np.abs(points - counts) < 0.2).all(1) & (counts >= 0).all(1)
        good &= counts.sum(1) == num
        counts = counts[good]
        off = np.abs(counts @ rows.T - num * share)
        good = (off <= num * slack).all(1)
        good &= ~(counts @ hands.T).any(1) & ~(counts @ even.T % 2).any(1)
        for row in counts[good]:
            yield nodes(entries, row)


def _solutions(
    rows: np.ndarray, hands: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`[E]` shares that fit, of any sign, and `[E, Q]` what may be added to them."""
    equal = np.concatenate([rows, hands, np.ones((1, rows.shape[1]))])
    goal = np.concatenate([share, np.zeros(len(hands)), [1.0]])
    left, sizes, spaces = np.linalg.svd(equal)
    rank = int((sizes > 1e-6 * sizes[0]).sum())
    base = spaces[:rank].T @ ((left[:, :rank].T @ goal) / sizes[:rank])
    return base, spaces[rank:].T


class _Polytope(NamedTuple):
    """All non-negative shares that explain the gradient and agree about edges."""

    base: np.ndarray
    """`[E]`, shares of any sign."""
    free: np.ndarray
    """`[E, Q]`, orthonormal, what may be added."""
    until: float
    """When to give up, on the monotonic clock."""

    def best(self, direction: np.ndarray) -> np.ndarray | None:
        """`[E]`, the shares that are best in a direction, lower is better.

        Raises:
          GaveUp: no time is left.
        """
        left = self.until - time.monotonic()
        if left <= 0:
            raise GaveUp(STAGE, "the shares are not determined, and time has run out")
        if not self.free.shape[1]:
            return self.base
        answer = scipy.optimize.linprog(
            direction @ self.free,
            A_ub=-self.free,
            b_ub=self.base + ZERO / 10,
            bounds=(-2, 2),
            options={"time_limit": left} if left < math.inf else {},
        )
        return None if answer.x is None else self.base + self.free @ answer.x

    def supported(self) -> np.ndarray:
        """The columns that are above 0 somewhere."""
        kept = np.zeros(len(self.base), bool)
        while not kept.all():
            shares = self.best(-(~kept).astype(float))
            if shares is None or not ((shares > ZERO) & ~kept).any():
                break
            kept |= shares > ZERO
        return np.flatnonzero(kept)

    def range(self, column: int) -> tuple[float, float]:
        """The least and the largest share of a column."""
        direction = np.zeros(len(self.base))
        direction[column] = 1
        low, high = self.best(direction), self.best(-direction)
        if low is None or high is None:
            return 0.0, 1.0
        return float(low[column]), float(high[column])
