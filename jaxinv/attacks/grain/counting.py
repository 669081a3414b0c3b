"""From shares of types to numbers of nodes: the integer side of `multiplicities`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np

from jaxinv.attacks.grain.lattice import LOOSE, Lattice, solutions
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


def proportional_counts(
    found: System,
    solution: np.ndarray,
    types: Types,
    least_nodes: int,
    most_nodes: int,
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
    for num in range(least_nodes, most_nodes + 1):
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
    # What rounding blurs does not bound the search; it is checked afterwards.
    sharp = slack < LOOSE
    kept = _lattice(rows[sharp], hands, share[sharp], until).supported()
    if not len(kept):
        raise GaveUp(STAGE, "no non-negative numbers of nodes explain the gradient")
    entries = Entry(found.entries.types[kept], found.entries.labels[kept])
    hands, even = handshakes(types, entries), loops(types, entries)
    rows = rows[:, kept]
    lattice = _lattice(rows[sharp], hands, share[sharp], until)
    for num in range(least_nodes, most_nodes + 1):
        if time.monotonic() > until:
            raise GaveUp(STAGE, f"no time left at {num} nodes")
        counts = lattice.points(num)
        off = np.abs(counts @ rows.T - num * share)
        good = (counts.sum(1) == num) & (off <= num * slack).all(1)
        good &= ~(counts @ hands.T).any(1) & ~(counts @ even.T % 2).any(1)
        for row in counts[good]:
            yield nodes(entries, row)


def _lattice(
    rows: np.ndarray, hands: np.ndarray, share: np.ndarray, until: float
) -> Lattice:
    equal = np.concatenate([rows, hands, np.ones((1, rows.shape[1]))])
    right = np.concatenate([share, np.zeros(len(hands)), [1.0]])
    return Lattice(*solutions(equal, right, 1e-6), until)
