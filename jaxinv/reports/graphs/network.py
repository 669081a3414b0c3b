"""Graphs as dots and lines: coordinates of a picture."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import networkx
import numpy as np

from jaxinv.graph import Graph
from jaxinv.reports.graphs.difference import Edge, edges

WIDTH, HEIGHT, _MARGIN = 260, 180, 14

Place = tuple[float, float]


class Line(NamedTuple):
    """An edge."""

    x1: float
    y1: float
    x2: float
    y2: float
    wrong: bool
    """Whether the other graph does not have it."""


class Dot(NamedTuple):
    """A node."""

    x: float
    y: float
    hue: int
    """Of its colour, 0 to 359: equal for equal rows of features."""
    name: str


class Picture(NamedTuple):
    """In its own units from the top left."""

    width: int
    height: int
    lines: list[Line]
    dots: list[Dot]


def layout(graph: Graph, fixed: Mapping[int, Place] | None = None) -> list[Place]:
    """Where the nodes stand, in the unit square.

    Args:
      graph: without padding.
      fixed: nodes whose place is given, for a graph that is drawn like another.
    """
    fixed = dict(fixed or {})
    num = len(graph.features)
    if len(fixed) == num:
        return [fixed[node] for node in range(num)]
    drawn = networkx.empty_graph(num)
    drawn.add_edges_from(edges(graph))
    start = networkx.circular_layout(drawn, scale=0.5, center=(0.5, 0.5))
    found = networkx.spring_layout(
        drawn,
        pos={**start, **fixed},
        fixed=list(fixed) or None,
        iterations=200,
        k=1.2 / max(1, num) ** 0.5,
        seed=0,
    )
    rows = np.array([found[node] for node in range(num)])
    if not fixed:
        low, high = rows.min(0), rows.max(0)
        rows = (rows - low) / np.where(high > low, high - low, 1)
        rows[:, high == low] = 0.5
    return [(float(x), float(y)) for x, y in rows.clip(0, 1)]


def picture(
    graph: Graph,
    where: Sequence[Place],
    wrong: Collection[Edge] = (),
    names: Sequence[str] | None = None,
) -> Picture:
    """The picture of a graph whose nodes stand somewhere, edges that are wrong marked.

    Args:
      graph: without padding.
      where: of `layout`.
      wrong: edges to mark.
      names: of the nodes, written on them; None for no names.
    """
    spots = [
        (
            round(_MARGIN + x * (WIDTH - 2 * _MARGIN), 1),
            round(_MARGIN + y * (HEIGHT - 2 * _MARGIN), 1),
        )
        for x, y in where
    ]
    lines = [
        Line(*spots[one], *spots[other], (one, other) in wrong)
        for one, other in edges(graph)
    ]
    dots = [
        Dot(*spot, _hue(row), names[node] if names else "")
        for node, (spot, row) in enumerate(zip(spots, graph.features, strict=True))
    ]
    return Picture(WIDTH, HEIGHT, lines, dots)


def _hue(row: np.ndarray) -> int:
    """Equal rows in equal colours, in any picture: by a sum that is spread out."""
    columns = np.flatnonzero(row).astype(np.int64)
    return int((137 * (columns + 1) * (columns + 7)).sum() % 360)
