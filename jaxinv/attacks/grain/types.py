"""Types of nodes: what a network of a given depth can tell apart.

A type of level 0 is a row of features; a type of level l is a type of level l - 1
together with the multiset of its neighbours' types of that level (Weisfeiler and Leman
1968). Layer l gives nodes of one type one embedding, so an attack looks for types.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Types(NamedTuple):
    """The candidate types of one level, on the host."""

    own: np.ndarray
    """`[T]`, index of the node's type one level below; of level 0 its own index."""
    others: np.ndarray
    """`[T, K]`, sorted indices of the neighbours' types one level below, then -1."""
    degrees: np.ndarray
    """`[T]`, number of neighbours."""
    rows: np.ndarray
    """`[T, D]` float64, the embedding; of level 0 the normalised features."""

    @property
    def num(self) -> int:
        """T, how many."""
        return len(self.own)

    def take(self, index: np.ndarray) -> Types:
        """Some of them."""
        return Types(*(leaf[index] for leaf in self))


def joined(parts: list[Types]) -> Types:
    """Types of several degrees in one table."""
    width = max((part.others.shape[1] for part in parts), default=0)
    others = [
        np.pad(p.others, ((0, 0), (0, width - p.others.shape[1])), constant_values=-1)
        for p in parts
    ]
    own, _, degrees, rows = zip(*parts, strict=True)
    return Types(
        np.concatenate(own),
        np.concatenate(others),
        np.concatenate(degrees),
        np.concatenate(rows),
    )


def compact(below: Types, above: Types) -> tuple[Types, Types]:
    """Both levels without those below that nothing above uses."""
    used = np.zeros(below.num, bool)
    used[above.own] = True
    used[above.others[above.others >= 0]] = True
    if used.all():
        return below, above
    new = np.where(used, np.cumsum(used) - 1, -1)
    others = np.where(above.others >= 0, new[above.others], -1)
    return below.take(used), above._replace(own=new[above.own], others=others)


def closed(above: Types) -> np.ndarray:
    """`[T]`, which types can stand in a graph made of these types.

    Every neighbour needs a type of its own that has the node among its neighbours;
    what has no such partner goes, and what relied on it.
    """
    alive = np.ones(above.num, bool)
    size = int(max(above.own.max(initial=-1), above.others.max(initial=-1))) + 1
    present = above.others >= 0
    while True:
        # seen[i, j]: some living type with own i has j among its neighbours.
        seen = np.zeros((size, size), bool)
        rows = np.broadcast_to(above.own[:, None], above.others.shape)
        use = present & alive[:, None]
        seen[rows[use], above.others[use]] = True
        back = seen[above.others, rows] | ~present
        keep = alive & back.all(1)
        if (keep == alive).all():
            return keep
        alive = keep
