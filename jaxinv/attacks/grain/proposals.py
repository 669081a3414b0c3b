"""Candidate types of the next level, all of them, without repetition.

Of level 1 any multiset of neighbours is possible that the nodes' degrees and what is
known so far allow; of higher levels a node's neighbours must agree with its type one
level below, and have it among their own neighbours.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from jaxinv.attacks.grain.types import Types

Chunk = tuple[np.ndarray, np.ndarray]
"""Own `[B]` and others `[B, K]`."""


def multisets(pool: np.ndarray, size: int) -> np.ndarray:
    """`[M, size]`, every multiset of that size, each sorted as the pool is."""
    index = np.zeros((1, 0), int)
    last = np.zeros(1, int)
    for _ in range(size):
        counts = len(pool) - last
        rows = np.repeat(np.arange(len(index)), counts)
        ends = np.cumsum(counts)
        starts = np.repeat(ends - counts, counts)
        last = np.arange(len(rows)) - starts + (len(pool) - counts)[rows]
        index = np.concatenate([index[rows], last[:, None]], 1)
    return pool[index]


def num_multisets(pool: int, size: int) -> int:
    """How many there are; of nothing there is one, the empty one."""
    return math.comb(pool + size - 1, size) if size else 1


def neighbourhoods(
    centres: np.ndarray, degree: int, allowed: np.ndarray, batch: int
) -> Iterator[Chunk]:
    """Level-1 candidates with one degree.

    Args:
      centres: `[C]` indices of node types of this degree.
      degree: K.
      allowed: `[N, N]`, whether j may be a neighbour of i.
      batch: rows of a chunk at most.
    """

    def pieces() -> Iterator[Chunk]:
        for centre in centres:
            pool = np.flatnonzero(allowed[centre])
            if degree < 3:
                others = multisets(pool, degree)
                yield np.full(len(others), centre), others
                continue
            for i, first in enumerate(pool):  # by parts: all may not fit in memory
                rest = multisets(pool[i:], degree - 1)
                others = np.concatenate([np.full((len(rest), 1), first), rest], 1)
                yield np.full(len(others), centre), others

    return rebatched(pieces(), batch)


def num_neighbourhoods(centres: np.ndarray, degree: int, allowed: np.ndarray) -> int:
    """How many candidates `neighbourhoods` would yield."""
    return sum(num_multisets(int(allowed[c].sum()), degree) for c in centres)


def refinements(below: Types, batch: int) -> dict[int, tuple[int, Iterator[Chunk]]]:
    """Candidates of level 2 or higher, by degree: how many, and their chunks.

    Args:
      below: the types one level below, level 1 or higher.
      batch: rows of a chunk at most.
    """
    partners: dict[tuple[int, int], list[int]] = {}
    for i, (own, others) in enumerate(zip(below.own, below.others, strict=True)):
        for other in set(others[others >= 0].tolist()):
            partners.setdefault((int(own), other), []).append(i)
    slots: dict[int, list[tuple[int, list[tuple[np.ndarray, int]]]]] = {}
    for i, others in enumerate(below.others):
        own, present = int(below.own[i]), others[others >= 0]
        values, counts = np.unique(present, return_counts=True)
        groups = [
            (np.asarray(partners.get((int(v), own), []), int), int(c))
            for v, c in zip(values, counts, strict=True)
        ]
        slots.setdefault(len(present), []).append((i, groups))

    def size(groups: Sequence[tuple[np.ndarray, int]]) -> int:
        return math.prod(num_multisets(len(p), c) if len(p) else 0 for p, c in groups)

    def pieces(rows: list[tuple[int, list[tuple[np.ndarray, int]]]]) -> Iterator[Chunk]:
        for i, groups in rows:
            if not size(groups):
                continue
            parts = [multisets(pool, count) for pool, count in groups]
            # The longest is spread as an array, the others are looped over.
            longest = max(range(len(parts)), key=lambda k: len(parts[k]), default=0)
            loops = [p if k != longest else p[:1] for k, p in enumerate(parts)]
            for choice in itertools.product(*loops):
                if not parts:
                    yield np.array([i]), np.zeros((1, 0), int)
                    continue
                rows_of = parts[longest]
                columns = [
                    rows_of if k == longest else np.tile(c, (len(rows_of), 1))
                    for k, c in enumerate(choice)
                ]
                others = np.sort(np.concatenate(columns, 1), 1)
                yield np.full(len(others), i), others

    return {
        degree: (
            sum(size(groups) for _, groups in rows),
            rebatched(pieces(rows), batch),
        )
        for degree, rows in slots.items()
    }


def rebatched(pieces: Iterator[Chunk], batch: int) -> Iterator[Chunk]:
    """The same candidates in chunks of `batch` rows, the last one shorter."""
    held: list[Chunk] = []
    size = 0
    for own, others in pieces:
        held.append((own, others))
        size += len(own)
        if size < batch:
            continue
        a, b = (np.concatenate(x) for x in zip(*held, strict=True))
        whole = size - size % batch
        for start in range(0, whole, batch):
            yield a[start : start + batch], b[start : start + batch]
        held, size = [(a[whole:], b[whole:])], size - whole
    if size:
        a, b = (np.concatenate(x) for x in zip(*held, strict=True))
        yield a, b
