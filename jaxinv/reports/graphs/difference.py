"""Truth beside pick: the pick in the truth's order, and edges one has too many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxinv.graph import Graph

Edge = tuple[int, int]


class Beside(NamedTuple):
    """A pick whose first nodes are partners of the truth's, where they have some."""

    pick: Graph
    partner: tuple[int | None, ...]
    """For each node of the pick, its partner in the truth."""
    missed: tuple[Edge, ...]
    """Edges of the truth, in its nodes, that the pick lacks."""
    extra: tuple[Edge, ...]
    """Edges of the pick, in its nodes, that the truth lacks."""


def beside(truth: Graph, pick: Graph, match: Sequence[Sequence[int]]) -> Beside:
    """Puts a pick's nodes in the truth's order and compares the edges.

    Args:
      truth: the client's graph.
      pick: the recovered one.
      match: pairs of nodes, of the truth and of the pick; the others have no partner.
    """
    pairs = sorted((one, other) for one, other in match)
    matched = {other for _, other in pairs}
    rest = [node for node in range(len(pick.features)) if node not in matched]
    order = [other for _, other in pairs] + rest
    partner = tuple(one for one, _ in pairs) + (None,) * len(rest)
    moved = Graph(
        pick.features[order],
        pick.adjacency[np.ix_(order, order)],
        pick.mask[order],
        pick.labels[order] if np.ndim(pick.labels) else pick.labels,
    )
    place = {one: node for node, one in enumerate(partner) if one is not None}
    missed = tuple(
        (one, other)
        for one, other in edges(truth)
        if one not in place
        or other not in place
        or not moved.adjacency[place[one], place[other]]
    )
    extra = tuple(
        (one, other)
        for one, other in edges(moved)
        if not _joined(truth, partner[one], partner[other])
    )
    return Beside(moved, partner, missed, extra)


def edges(graph: Graph) -> list[Edge]:
    """Each edge once, the smaller end first."""
    return [(int(i), int(j)) for i, j in np.argwhere(np.triu(graph.adjacency, 1))]


def _joined(truth: Graph, one: int | None, other: int | None) -> bool:
    if one is None or other is None:
        return False
    return bool(truth.adjacency[one, other])
