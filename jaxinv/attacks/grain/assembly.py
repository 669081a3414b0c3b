"""From nodes with types to graphs: exact matching of half-edges.

A node of a type of the last level says of each of its neighbours which type of the
level below it has. An edge joins two nodes that expect each other's types. Every simple
graph that uses up all half-edges has, for these types, the same embeddings.

Sets of nodes are whole numbers, one bit a node, so that a step of the search is a few
operations on bits.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np

from jaxinv.attacks.grain.types import Types
from jaxinv.graph import ANY, Domain

CLOCK = 64
"""Steps between two looks at the clock."""


class Search:
    """All graphs of one set of nodes by depth-first search, the likely ones first.

    Attributes:
      exhausted: whether the search was given up before its end.
      beyond: the least cost above the bound of the last call that it turned away from;
        infinite where there was none, which is when all graphs have been seen.
    """

    def __init__(
        self,
        types: Types,
        nodes: np.ndarray,
        until: float,
        domain: Domain = ANY,
    ):
        """Takes what there is to join.

        Args:
          types: of the last level.
          nodes: `[n]`, the type of each.
          until: when to give up, on the monotonic clock.
          domain: what rings and pieces cost.
        """
        self.kind: list[int] = nodes.tolist()
        self.own: list[int] = types.own[nodes].tolist()
        self.size = len(self.own)
        self.until, self.domain = until, domain
        self.exhausted, self.beyond, self.steps = False, math.inf, 0
        # Half-edges: what each node still wants, how many, and who wants any at all.
        others = types.others[nodes]
        self.open = [Counter(row[row >= 0].tolist()) for row in others]
        self.left = [sum(wanted.values()) for wanted in self.open]
        self.unfinished = sum(1 << i for i, left in enumerate(self.left) if left)
        self.wanting: Counter[tuple[int, int]] = Counter()
        for i, wanted in enumerate(self.open):
            for other in wanted:
                self.wanting[self.own[i], other] |= 1 << i
        # Who is joined, to whom, and to whom not.
        self.touched = 0
        self.neighbours = [0] * self.size
        self.banned = [0] * self.size
        self.of_kind: Counter[int] = Counter()
        for i, kind in enumerate(self.kind):
            self.of_kind[kind] |= 1 << i

    def graphs(self, above: float = -1.0, most: float = math.inf) -> Iterator:
        """`[n, n]` adjacencies of `above < cost <= most`; some again, renumbered."""
        self.beyond = math.inf
        yield from self._extend(0.0, above, most)

    def _extend(self, cost: float, above: float, most: float) -> Iterator:
        self.steps += 1
        if self.steps % CLOCK == 1 and time.monotonic() > self.until:
            self.exhausted = True
        if self.exhausted:
            return
        if not self.unfinished:
            if cost > above:
                yield self._adjacency()
            return
        choice = self._tightest()
        if choice is None:
            return
        node, options = choice
        banned = 0
        for step, other, alike in self._ranked(node, options):
            touched = self.touched
            self._join(node, other)
            total = cost + step + self._piece(node)
            if total > most:
                self.beyond = min(self.beyond, total)
            else:
                yield from self._extend(total, above, most)
            self._part(node, other)
            self.touched = touched
            if self.exhausted:
                break
            # What has this edge has been seen: from here on it is not there.
            banned |= self._ban(node, alike)
        self._unban(node, banned)

    def _tightest(self) -> tuple[int, int] | None:
        """The open half-edge with the fewest partners, or None where one has too few.

        Touched nodes alone, where there are any: growing one piece keeps the untouched
        nodes interchangeable.
        """
        fewest, choice = math.inf, None
        for node in _members(self.touched & self.unfinished or self.unfinished):
            own = self.own[node]
            never = self.neighbours[node] | self.banned[node] | 1 << node
            for wanted, count in self.open[node].items():
                if not count:
                    continue
                partners = self.wanting[wanted, own] & ~never
                number = partners.bit_count()
                if number < count:
                    return None
                if number < fewest:
                    fewest, choice = number, (node, partners)
        return choice

    def _ranked(self, node: int, options: int) -> list[tuple[float, int, int]]:
        """What each partner costs, the partner and those like it, the cheapest first.

        Untouched nodes of one kind are alike: one of them stands for all.
        """
        found = []
        fresh = options & ~self.touched
        while fresh:
            other = (fresh & -fresh).bit_length() - 1
            alike = fresh & self.of_kind[self.kind[other]]
            found.append((0.0, other, alike))
            fresh &= ~alike
        for other in _members(options & self.touched):
            found.append((self._ring(node, other), other, 1 << other))
        found.sort(key=lambda option: option[0])
        return found

    def _ring(self, a: int, b: int) -> float:
        """The cost of the ring that an edge would close; 0 where it closes none."""
        if self.domain.ring is None:
            return 0.0
        for size, front in enumerate(self._fronts(a), 1):
            if front >> b & 1:
                return self.domain.ring(size)
        return 0.0

    def _piece(self, node: int) -> float:
        """The cost of a piece that is finished while others are not."""
        if not self.domain.piece or not self.unfinished:
            return 0.0
        piece = 0
        for front in self._fronts(node):
            piece |= front
        return 0.0 if piece & self.unfinished else self.domain.piece

    def _fronts(self, node: int) -> Iterator[int]:
        """The nodes 0, 1, 2 ... edges away."""
        seen = front = 1 << node
        while front:
            yield front
            near = 0
            for i in _members(front):
                near |= self.neighbours[i]
            front = near & ~seen
            seen |= front

    def _join(self, a: int, b: int) -> None:
        self.touched |= 1 << a | 1 << b
        for one, other in ((a, b), (b, a)):
            self.neighbours[one] |= 1 << other
            wanted = self.own[other]
            self.open[one][wanted] -= 1
            if not self.open[one][wanted]:
                self.wanting[self.own[one], wanted] &= ~(1 << one)
            self.left[one] -= 1
            if not self.left[one]:
                self.unfinished &= ~(1 << one)

    def _part(self, a: int, b: int) -> None:
        """Undoes `_join`, but for who is touched."""
        for one, other in ((a, b), (b, a)):
            self.neighbours[one] &= ~(1 << other)
            wanted = self.own[other]
            self.open[one][wanted] += 1
            self.wanting[self.own[one], wanted] |= 1 << one
            self.left[one] += 1
            self.unfinished |= 1 << one

    def _ban(self, node: int, others: int) -> int:
        """Rules out edges; returns those that were not ruled out before."""
        fresh = others & ~self.banned[node]
        self.banned[node] |= fresh
        for other in _members(fresh):
            self.banned[other] |= 1 << node
        return fresh

    def _unban(self, node: int, others: int) -> None:
        self.banned[node] &= ~others
        for other in _members(others):
            self.banned[other] &= ~(1 << node)

    def _adjacency(self) -> np.ndarray:
        adjacency = np.zeros((self.size, self.size), np.float32)
        for i, others in enumerate(self.neighbours):
            adjacency[i, list(_members(others))] = 1
        return adjacency


def _members(nodes: int) -> Iterator[int]:
    """The nodes of a set, ascending."""
    while nodes:
        lowest = nodes & -nodes
        yield lowest.bit_length() - 1
        nodes ^= lowest
