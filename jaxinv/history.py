"""How many starts went on their way: the best of them, and the spread of the others.

Starts advance batch after batch, so that no moment of a run sees all of them. What is
kept is the score of every start after the same numbers of steps, and quartiles are
taken of it at the end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ENTRIES = 2**22
"""Scores kept at most, 32 MiB of them; of more starts every second, third, ... one."""


class Spread(NamedTuple):
    """The scores of the starts that got as far as each record."""

    quartiles: np.ndarray
    """`[records, 3]`, 25, 50 and 75 % of those that had not diverged, interpolated; NaN
    where all had. Of very many starts, of an even share of them (`ENTRIES`)."""
    starts: np.ndarray
    """`[records]` ints, how many took so many steps; fewer after some were dropped, or
    where the user stopped the run."""
    diverged: np.ndarray
    """`[records]` ints, how many of them had diverged by then."""


NOWHERE = Spread(np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros(0, np.int64))
"""Of a run that nobody looked at on its way."""


class History:
    """The scores of a run's starts at the numbers of steps where the host looks."""

    def __init__(self, num: int, ends: list[int]) -> None:
        """Takes the size of the run.

        Args:
          num: starts.
          ends: `[records]`, ascending numbers of steps.
        """
        self._row = {end: row for row, end in enumerate(ends)}
        self._every = max(1, -(-num * len(ends) // ENTRIES))
        self._scores = np.full((len(ends), -(-num // self._every)), np.nan)
        self._best = np.full(len(ends), np.inf)
        self._starts, self._diverged = np.zeros((2, len(ends)), np.int64)

    def note(
        self, end: int, ids: np.ndarray, scores: np.ndarray, diverged: np.ndarray
    ) -> None:
        """Keeps what became of some starts.

        Args:
          end: steps they have taken, one of the run's.
          ids: `[n]` which starts, each once for an end.
          scores: `[n]`, infinite where there is none.
          diverged: `[n]` bool; an infinite score counts as well.
        """
        row = self._row[end]
        lost = diverged | ~np.isfinite(scores)
        self._best[row] = min(self._best[row], scores.min())
        self._starts[row] += len(ids)
        self._diverged[row] += lost.sum()
        kept = ~lost & (ids % self._every == 0)
        self._scores[row, ids[kept] // self._every] = scores[kept]

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """`[records]` steps that any start took, and the best score at each."""
        reached = self._starts > 0
        return np.array(list(self._row), np.int64)[reached], self._best[reached]

    def spread(self) -> Spread:
        """Of all starts, at the records of `best`."""
        reached = self._starts > 0
        finite = [row[~np.isnan(row)] for row in self._scores[reached]]
        quartiles = [
            np.quantile(row, (0.25, 0.5, 0.75)) if len(row) else np.full(3, np.nan)
            for row in finite
        ]
        return Spread(
            np.array(quartiles).reshape(-1, 3),
            self._starts[reached],
            self._diverged[reached],
        )
