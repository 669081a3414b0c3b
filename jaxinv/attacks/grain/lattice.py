"""Whole numbers that solve a linear system: those of nodes, those of edges.

All solutions are a base plus what is free, which is a space of few dimensions. As many
numbers are enumerated as there are dimensions, within bounds found by linear programs;
the others follow from them.
"""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import scipy.linalg
import scipy.optimize

from jaxinv.attacks.grain.outcome import GaveUp

STAGE = "multiplicities"
MOST_POINTS = 300_000
"""Combinations of the numbers that are free."""
LOOSE = 1e-3
"""How far below 0 a share may be found, for rounding of what determines it."""
ZERO = 4e-3
"""A share below it is rounding; one node of a hundred has more."""
NEAR = 0.2
"""How far from whole numbers the solution may be; whoever asks checks it exactly."""


class Lattice:
    """Shares `base + free @ z`, none below 0, and whole numbers that are multiples."""

    def __init__(self, base: np.ndarray, free: np.ndarray, until: float = math.inf):
        """Takes one solution and what may be added.

        Args:
          base: `[E]`, shares of any sign.
          free: `[E, Q]`, orthonormal.
          until: when to give up, on the monotonic clock.
        """
        self.base, self.free, self.until = base, free, until

    def points(self, num: int) -> np.ndarray:
        """`[S, E]`, non-negative whole numbers near `num` times possible shares.

        Raises:
          GaveUp: too much is free, or no time is left.
        """
        pivots, ranges, lift = self._enumeration()
        sides = [np.arange(np.ceil(num * a - 0.1), num * b + 0.1) for a, b in ranges]
        if math.prod(map(len, sides)) > MOST_POINTS:
            raise GaveUp(
                STAGE,
                f"{len(sides)} numbers are free, which leaves more than "
                f"{MOST_POINTS:,} combinations",
            )
        choices = list(itertools.product(*sides))
        grid = np.array(choices, float).reshape(len(choices), len(sides))
        exact = num * self.base + (grid - num * self.base[pivots]) @ lift.T
        points = np.round(exact)
        return points[(np.abs(exact - points) < NEAR).all(1) & (points >= 0).all(1)]

    def supported(self) -> np.ndarray:
        """The columns that are above 0 in some solution.

        Raises:
          GaveUp: no time is left.
        """
        kept = np.zeros(len(self.base), bool)
        while not kept.all():
            shares = self._best(-(~kept).astype(float))
            if shares is None or not ((shares > ZERO) & ~kept).any():
                break
            kept |= shares > ZERO
        return np.flatnonzero(kept)

    def _enumeration(self) -> tuple[np.ndarray, list[tuple[float, float]], np.ndarray]:
        """Which numbers to enumerate, their ranges of shares, how others follow."""
        if not hasattr(self, "_found"):
            pivots = np.zeros(0, int)
            if self.free.shape[1]:
                order = scipy.linalg.qr(self.free.T, mode="r", pivoting=True)[-1]
                pivots = np.asarray(order)[: self.free.shape[1]]
            ranges = [self._range(int(p)) for p in pivots]
            lift = self.free @ np.linalg.inv(self.free[pivots])
            self._found = pivots, ranges, lift
        return self._found

    def _range(self, column: int) -> tuple[float, float]:
        direction = np.zeros(len(self.base))
        direction[column] = 1
        low, high = self._best(direction), self._best(-direction)
        if low is None or high is None:
            return 0.0, 1.0
        return float(low[column]), float(high[column])

    def _best(self, direction: np.ndarray) -> np.ndarray | None:
        """`[E]`, the shares that are best in a direction, lower is better."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise GaveUp(STAGE, "the numbers are not determined, and time has run out")
        if not self.free.shape[1]:
            return self.base
        answer = scipy.optimize.linprog(
            direction @ self.free,
            A_ub=-self.free,
            b_ub=self.base + LOOSE,
            bounds=(-2, 2),
            options={"time_limit": left} if left < math.inf else {},
        )
        return None if answer.x is None else self.base + self.free @ answer.x


def solutions(
    matrix: np.ndarray, right: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """`[E]`, one solution, and `[E, Q]` what may be added to it.

    Args:
      matrix: `[R, E]`.
      right: `[R]`.
      tolerance: relative size of singular values that count as 0.
    """
    left, sizes, spaces = np.linalg.svd(
        matrix, full_matrices=len(matrix) < matrix.shape[1]
    )
    rank = int((sizes > tolerance * sizes[0]).sum()) if len(sizes) else 0
    base = spaces[:rank].T @ ((left.T[:rank] @ right) / sizes[:rank])
    return base, spaces[rank:].T
