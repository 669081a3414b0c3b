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

    def __init__(self, types: Types, counts: Counts, *, seconds: float):
        """Takes types of the last level, the nodes, and how long to search."""
        self.own = types.own[counts.types].tolist()
        kinds = counts.types.tolist(), counts.labels.tolist()
        self.kind = list(zip(*kinds, strict=True))
        self.open = [
            Counter(row[row >= 0].tolist()) for row in types.others[counts.types]
        ]
        self.size = len(self.own)
        self.neighbours: list[set[int]] = [set() for _ in range(self.size)]
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
        tried = set()
        for other in partners:
            # Untouched nodes of one kind are alike: one of them stands for all.
            if not self.neighbours[other]:
                if self.kind[other] in tried:
                    continue
                tried.add(self.kind[other])
            self._join(node, other)
            yield from self.graphs()
            self._part(node, other)
            if self.exhausted:
                return

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
        ]

    def _join(self, a: int, b: int) -> None:
        self.neighbours[a].add(b)
        self.neighbours[b].add(a)
        self.open[a][self.own[b]] -= 1
        self.open[b][self.own[a]] -= 1

    def _part(self, a: int, b: int) -> None:
        self.neighbours[a].discard(b)
        self.neighbours[b].discard(a)
        self.open[a][self.own[b]] += 1
        self.open[b][self.own[a]] += 1
