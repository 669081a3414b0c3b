"""The pictures of a report: every graph beside what was recovered of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxinv.audits.graphs.packing import unpacked
from jaxinv.graph import Graph
from jaxinv.reports.graphs.difference import Edge, beside
from jaxinv.reports.graphs.molecule import molecule_uri, symbols
from jaxinv.reports.graphs.network import (
    Picture,
    Place,
    layout,
    layout_like,
    picture,
)
from jaxinv.reports.graphs.verdict import rate

MAX_SHOWN = 60
"""Graphs that are drawn; the table has all."""


class Drawing(NamedTuple):
    """One graph, as one or the other."""

    uri: str | None
    """Of an SVG that RDKit drew."""
    network: Picture | None
    """Dots and lines."""


class Shown(NamedTuple):
    """A client's graph, and what was recovered."""

    entry: Mapping[str, Any]
    """Of the report."""
    truth: Drawing
    pick: Drawing | None
    """None where there is none."""
    others: list[Drawing]
    """Of the class, without the pick."""
    wrong: bool
    """Whether any edge is marked."""


def gallery(report: Mapping[str, Any]) -> list[Shown]:
    """The pictures of a report, in its order.

    Where there are too many, graphs that were not recovered exactly come first.
    """
    entries: Sequence[Mapping[str, Any]] = report["graphs"]
    if len(entries) > MAX_SHOWN:
        solved = ("proved", "exact", "alone")
        entries = sorted(entries, key=lambda entry: rate(entry) in solved)[:MAX_SHOWN]
    columns, chemical = report["dataset"]["num_features"], report["unit"] == "molecule"
    return [_shown(entry, columns, chemical) for entry in entries]


def _shown(entry: Mapping[str, Any], columns: int, chemical: bool) -> Shown:
    truth = unpacked(entry["truth"], columns)
    where = layout(truth)
    if entry["pick"] is None:
        return Shown(entry, _drawn(truth, where, (), chemical), None, [], False)
    side = beside(truth, unpacked(entry["pick"], columns), entry["match"])
    fixed = {i: where[j] for i, j in enumerate(side.partner) if j is not None}
    others = [unpacked(other, columns) for other in entry["class"][1:]]
    return Shown(
        entry,
        _drawn(truth, where, side.missed, chemical),
        _drawn(side.pick, layout_like(side.pick, fixed), side.extra, chemical),
        [_drawn(other, layout(other), (), chemical) for other in others],
        bool(side.missed or side.extra),
    )


def _drawn(
    graph: Graph, where: Sequence[Place], wrong: Sequence[Edge], chemical: bool
) -> Drawing:
    uri = molecule_uri(graph, wrong) if chemical else None
    if uri is not None:
        return Drawing(uri, None)
    names = symbols(graph) if chemical else None
    return Drawing(None, picture(graph, where, wrong, names))
