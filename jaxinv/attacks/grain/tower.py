"""From types of nodes to types of the last level: neighbourhoods, tested by span."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxinv.attacks.grain.embedding import BATCH, Embedder
from jaxinv.attacks.grain.lost_rank import lost_directions
from jaxinv.attacks.grain.node_types import unidentifiable
from jaxinv.attacks.grain.outcome import GaveUp
from jaxinv.attacks.grain.proposals import (
    neighbourhoods,
    num_neighbourhoods,
    refinements,
)
from jaxinv.attacks.grain.types import Types, closed, compact, joined
from jaxinv.attacks.span import Span, span
from jaxinv.models.graph_networks.base import GraphModel

STAGE = "neighbourhoods"
MOST_GUESSES = 1_000_000
"""Candidates of a level where what the gradient has lost is only guessed."""
SLACK = 1000.0
"""Of a wider span, of the last level and then of the first, where the bound leads to no
graph."""


def level_span(model: GraphModel, update: Any, level: int) -> Span:
    """Of what the next layer (or the readout) is fed, at one level."""
    factors = model.factors(update, level)
    if level == model.depth:
        return span([factors[0].matrix])
    rows = min(len(f.matrix) - f.affine for f in factors)
    return span([f.matrix[:rows] for f in factors])


def neighbourhood_types(embedder: Embedder, whole: Span, most: int) -> Types:
    """Level 1: every neighbourhood in the span that can stand in a graph.

    Small degrees come first. A node of a small degree that is known not to have some
    type among its neighbours needs not be tried as a neighbour of it, which is what
    keeps larger degrees, whose neighbourhoods are the many, within reach.

    Raises:
      GaveUp: more than `most` candidates, or none is left.
    """
    below = embedder.below
    if not whole.identifiable:
        raise GaveUp(STAGE, unidentifiable(whole, "different neighbourhoods"))
    degrees = below.degrees
    allowed = np.broadcast_to(degrees[None, :] > 0, (below.num,) * 2).copy()
    found, budget = [], most
    for degree in np.unique(degrees):
        centres = np.flatnonzero(degrees == degree)
        count = num_neighbourhoods(centres, int(degree), allowed)
        budget -= count
        if budget < 0:
            raise GaveUp(
                STAGE, f"{count:,} neighbourhoods of {degree} nodes; at most {most:,}"
            )
        chunks = neighbourhoods(centres, int(degree), allowed, BATCH)
        types = embedder.passing(chunks, whole)
        found.append(types)
        seen = np.zeros_like(allowed)  # [own, other]
        rows = np.broadcast_to(types.own[:, None], types.others.shape)
        seen[types.others, rows] = True
        allowed[:, centres] &= seen[:, centres]
    return living(joined(found), "neighbourhood")


def refined_types(embedder: Embedder, whole: Span, most: int) -> Types:
    """Levels 2 and up.

    Raises:
      GaveUp: as `neighbourhood_types`.
    """
    level = embedder.level
    if not whole.identifiable:
        raise GaveUp(STAGE, unidentifiable(whole, f"types of level {level}"))
    found = []
    parts = refinements(embedder.below, BATCH)
    total = sum(count for count, _ in parts.values())
    if total > most:
        raise GaveUp(
            STAGE, f"{total:,} neighbourhoods of depth {level}; at most {most:,}"
        )
    for _, chunks in parts.values():
        found.append(embedder.passing(chunks, whole))
    return living(joined(found), f"neighbourhood of depth {level}")


def living(types: Types, what: str) -> Types:
    """Those that can stand in a graph, with their partners.

    Raises:
      GaveUp: none is left.
    """
    types = types.take(closed(types))
    if not types.num:
        raise GaveUp(
            STAGE,
            f"no {what} in the span has partners for all its neighbours: the "
            "gradient has lost rank, or it is not this model's",
        )
    return types


def build_tower(
    model: GraphModel, params: Any, nodes: Types, spans: Sequence[Span], most: int
) -> list[Types]:
    """Types of all levels, 0 to `depth`, each used by the level above.

    Args:
      model: the network.
      params: its weights.
      nodes: level 0.
      spans: of levels 1 and up.
      most: candidates of a level.

    Raises:
      GaveUp: too many candidates of a level, or none is left.
    """
    tower = [nodes]
    for level, whole in enumerate(spans, 1):
        below = tower[-1]
        features = base_rows(tower)
        embedder = Embedder(model, params, level, below, features)
        if level == 1:
            above = neighbourhood_types(embedder, whole, most)
        else:
            above = refined_types(embedder, whole, most)
        tower.append(above)
        for k in range(level, 0, -1):
            tower[k - 1], tower[k] = compact(tower[k - 1], tower[k])
    return tower


def towers(
    model: GraphModel, params: Any, nodes: Types, spans: Sequence[Span], most: int
) -> Iterator[list[Types]]:
    """The tower, then those of wider spans, then those with a direction added.

    Two types whose slopes agree, or nearly, are in the gradient as a sum, and each is a
    little outside the span. Where they are far outside, level 1 has lost a direction.

    Arguments and errors as of `build_tower`; the errors of the first tower come last.
    """
    failed = None
    try:
        yield build_tower(model, params, nodes, spans, most)
    except GaveUp as end:
        failed = end
    for level in (-1, 0):
        try:
            wider = list(spans)
            wider[level] = wider[level]._replace(slack=SLACK)
            yield build_tower(model, params, nodes, wider, min(most, MOST_GUESSES))
        except GaveUp:
            continue
    centres = [
        (np.flatnonzero(nodes.degrees == d), int(d)) for d in np.unique(nodes.degrees)
    ]
    allowed = np.broadcast_to(nodes.degrees[None, :] > 0, (nodes.num,) * 2)
    if spans[0].identifiable and model.depth > 1:
        embedder = Embedder(model, params, 1, nodes, nodes.rows)
        chunks = itertools.chain.from_iterable(
            neighbourhoods(where, d, allowed, BATCH) for where, d in centres
        )
        for whole in lost_directions(embedder, spans[0], chunks):
            try:
                yield build_tower(
                    model, params, nodes, [whole, *spans[1:]], min(most, MOST_GUESSES)
                )
            except GaveUp:
                continue
    if failed is not None:
        raise failed


def base_index(tower: list[Types], level: int | None = None) -> np.ndarray:
    """`[T]`, the node type of each type of a level (None: the last)."""
    level = len(tower) - 1 if level is None else level
    index = np.arange(tower[level].num)
    for k in range(level, 0, -1):
        index = tower[k].own[index]
    return index


def base_rows(tower: list[Types]) -> np.ndarray:
    """`[T, F]`, the normalised features of each type of the last level."""
    return tower[0].rows[base_index(tower)]
