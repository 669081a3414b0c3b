"""From nodes with types to graphs: exact matching of half-edges.

A node of a type of the last level says of each of its neighbours which type of the
level below it has. An edge joins two nodes that expect each other's types. Every simple
graph that uses up all half-edges has, for these types, the same embeddings.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import numpy as np

from jaxinv.attacks.grain.multiplicities import Counts
from jaxinv.attacks.grain.types import Types


class Search:
    """All graphs of one set of nodes, one by one, by depth-first search.

    Attributes:
      exhausted: whether the search was given up before its end.
    """

    def __init__(
        self,
        types: Types,
        counts: Counts,
        *,
        seconds: float,
        edges: dict[tuple[int, int], int] | None = None,
    ):
        """Takes what there is to join.

        Args:
          types: of the last level.
          counts: the nodes.
          seconds: how long to search.
          edges: how many there are between nodes of each two kinds, numbered as
            `kinds` does, the smaller first; None where that is not known.
        """
        self.own = types.own[counts.types].tolist()
        self.kind = kinds(counts).tolist()
        self.open = [
            Counter(row[row >= 0].tolist()) for row in types.others[counts.types]
        ]
        self.size = len(self.own)
        self.neighbours: list[set[int]] = [set() for _ in range(self.size)]
        self.banned: set[tuple[int, int]] = set()
        self.edges = None if edges is None else dict(edges)
        self.until = time.monotonic() + seconds
        self.exhausted = False

    def graphs(self) -> Iterator[np.ndarray]:
        """`[n, n]` adjacencies; the same graph may come again, renumbered."""
        if time.monotonic() > self.until:
            self.exhausted = True
            return
        choice = self._tightest()
        if choice is None:
            adjacency = np.zeros((self.size, self.size), np.float32)
            for i, others in enumerate(self.neighbours):
                adjacency[i, list(others)] = 1
            yield adjacency
            return
        node, partners = choice
        tried: set[tuple[int, int]] = set()
        for other in partners:
            if (node, other) in tried:
                continue
            # Untouched nodes of one kind are alike: one of them stands for all.
            alike = {other}
            if not self.neighbours[other]:
                kind = self.kind[other]
                alike |= {
                    i
                    for i in range(self.size)
                    if self.kind[i] == kind and not self.neighbours[i] and i != node
                }
            self._join(node, other)
            yield from self.graphs()
            self._part(node, other)
            if self.exhausted:
                break
            # What has this edge has been seen: from here on it is not there.
            ban = {(node, i) for i in alike} - self.banned
            tried |= ban
            self.banned |= ban
        self.banned -= tried

    def _tightest(self) -> tuple[int, list[int]] | None:
        """The open half-edge with the fewest partners; touched nodes go first."""
        best = None
        for node in range(self.size):
            for wanted, count in self.open[node].items():
                if not count:
                    continue
                partners = self._partners(node, wanted)
                if len(partners) < count:
                    return node, []
                # Growing one piece keeps the untouched nodes interchangeable.
                rank = (not self.neighbours[node], len(partners))
                if best is None or rank < best[0]:
                    best = rank, (node, partners)
        return None if best is None else best[1]

    def _partners(self, node: int, wanted: int) -> list[int]:
        own = self.own[node]
        return [
            other
            for other in range(self.size)
            if other != node
            and self.own[other] == wanted
            and self.open[other][own]
            and other not in self.neighbours[node]
            and (node, other) not in self.banned
            and (other, node) not in self.banned
            and (self.edges is None or self.edges.get(self._pair(node, other), 0))
        ]

    def _pair(self, a: int, b: int) -> tuple[int, int]:
        one, other = self.kind[a], self.kind[b]
        return (one, other) if one < other else (other, one)

    def _join(self, a: int, b: int) -> None:
        self.neighbours[a].add(b)
        self.neighbours[b].add(a)
        self.open[a][self.own[b]] -= 1
        self.open[b][self.own[a]] -= 1
        if self.edges is not None:
            self.edges[self._pair(a, b)] -= 1

    def _part(self, a: int, b: int) -> None:
        self.neighbours[a].discard(b)
        self.neighbours[b].discard(a)
        self.open[a][self.own[b]] += 1
        self.open[b][self.own[a]] += 1
        if self.edges is not None:
            self.edges[self._pair(a, b)] += 1


def kinds(counts: Counts) -> np.ndarray:
    """`[n]`, nodes of one type and label share a number, from 0 in sorted order."""
    pairs = np.stack([counts.types, counts.labels], 1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
