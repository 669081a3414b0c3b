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


def layout(graph: Graph) -> list[Place]:
    """Where the nodes stand, in the unit square: every piece by itself, side by side.

    Args:
      graph: without padding.
    """
    drawn = networkx.empty_graph(len(graph.features))
    drawn.add_edges_from(edges(graph))
    pieces = sorted(networkx.connected_components(drawn), key=len, reverse=True)
    sides = [len(nodes) ** 0.5 for nodes in pieces]
    # Rows of about as much width as the picture has for its height.
    width = max(sides[0], (WIDTH / HEIGHT * sum(s**2 for s in sides)) ** 0.5)
    found, x, y, tall = {}, 0.0, 0.0, sides[0]
    for nodes, side in zip(pieces, sides, strict=True):
        if x and x + side > width * 1.01:
            x, y, tall = 0.0, y + tall, side
        for node, (right, down) in _piece(drawn.subgraph(sorted(nodes))).items():
            found[node] = x + side * right, y + side * down
        x += side
    rows = np.array([found[node] for node in range(len(found))])
    low, size = rows.min(0), np.ptp(rows, 0)
    rows = np.where(size > 0, (rows - low) / np.where(size > 0, size, 1), 0.5)
    return [(float(x), float(y)) for x, y in rows]


def _piece(drawn: networkx.Graph) -> dict[int, np.ndarray]:
    """Places of a connected graph, inside the unit square."""
    # The ways along edges become distances; SciPy, which it takes, comes with us.
    found = networkx.kamada_kawai_layout(drawn, scale=0.5, center=(0.5, 0.5))
    return {node: 0.5 + 0.76 * (np.asarray(at) - 0.5) for node, at in found.items()}


def layout_like(graph: Graph, fixed: Mapping[int, Place]) -> list[Place]:
    """Where the nodes stand if some have their place: the others beside neighbours.

    Args:
      graph: without padding.
      fixed: places of some nodes.
    """
    found = dict(fixed)
    for node in range(len(graph.features)):
        if node in found:
            continue
        around = np.flatnonzero(graph.adjacency[node]).tolist()
        near = [found[other] for other in around if other in found]
        x, y = np.mean(near, 0) if near else (0.5, 0.5)
        # So that no two stand in one spot.
        turn = 2.4 * node
        x, y = x + 0.12 * np.cos(turn), y + 0.12 * np.sin(turn)
        found[node] = float(np.clip(x, 0, 1)), float(np.clip(y, 0, 1))
    return [found[node] for node in range(len(found))]


def picture(
    graph: Graph,
    where: Sequence[Place],
    wrong: Collection[Edge] = (),
    names: Sequence[str] | None = None,
) -> Picture:
    """The picture of a graph whose nodes stand somewhere, edges that are wrong marked.

    Args:
      graph: without padding.
      where: of `layout` or `layout_like`.
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
