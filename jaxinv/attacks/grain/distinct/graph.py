"""The graph of nodes that are all different: their features, then their edges.

With independent features almost all weights tell graphs apart unless all their closed
neighbourhoods are the same, and those graphs are listed; see `closed_neighbourhoods`.
Where the readout is not fed the features that is not shown, and none is called unique.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from jaxinv.attacks.grain.attempt import Attempt, Member
from jaxinv.attacks.grain.distinct.closed_neighbourhoods import (
    same_closed_neighbourhoods,
)
from jaxinv.attacks.grain.distinct.edge_search import find_edges
from jaxinv.attacks.grain.distinct.read_nodes import distinct_nodes, reads_features
from jaxinv.attacks.grain.distinct.relaxed_adjacency import (
    certain_rows,
    relaxed_adjacency,
)
from jaxinv.attacks.grain.distinct.span_adjacency import span_adjacency
from jaxinv.attacks.grain.distinct.unread_nodes import unread_nodes
from jaxinv.attacks.grain.outcome import GaveUp, Recovered
from jaxinv.attacks.grain.tower import level_span

Search = Callable[[np.ndarray, np.ndarray], np.ndarray]


def distinct_graph(attempt: Attempt) -> Recovered:
    """The graph of nodes that are all different.

    Raises:
      GaveUp: the nodes are not found, or no graph of them has the gradient.
    """
    model = attempt.model
    read = reads_features(model)
    features, labels, search = _read(attempt) if read else _unread(attempt)
    attempt.counts["nodes"] = len(features)

    def members(adjacencies: list[np.ndarray]) -> list[Member]:
        return attempt.members(
            [
                attempt.graph(features, adjacency.astype(np.float32), labels)
                for adjacency in adjacencies
            ]
        )

    with attempt.stage("edges"):
        adjacency = _edges(attempt, features, search, members)
    with attempt.stage("class"):
        found, whole = _class(attempt, features, adjacency, members)
    rows = model.spec.normalise(features.astype(np.float64))
    whole &= read and np.linalg.matrix_rank(rows) == len(rows)
    return attempt.recovered(found, complete=whole, nodes_up_to=len(rows))


def _read(attempt: Attempt) -> tuple[np.ndarray, np.ndarray | None, Search]:
    """Features, labels, and a search for edges by what the readout was fed."""
    model, params = attempt.model, attempt.params
    with attempt.stage("node features"):
        nodes = distinct_nodes(model, params, attempt.update)
    attempt.tolerate(nodes.noise)

    def search(start: np.ndarray, free: np.ndarray) -> np.ndarray:
        return relaxed_adjacency(
            model, params, nodes.features, nodes.embeddings, start, free
        )

    return nodes.features, nodes.labels, search


def _unread(attempt: Attempt) -> tuple[np.ndarray, np.ndarray | None, Search]:
    """Features, no labels, and a search for edges by spans."""
    model, update = attempt.model, attempt.update
    with attempt.stage("node features"):
        features = unread_nodes(model, update)
    spans = [level_span(model, update, level) for level in range(1, model.depth + 1)]
    return features, None, span_adjacency(model, attempt.params, features, spans)


def _edges(
    attempt: Attempt,
    features: np.ndarray,
    search: Search,
    members: Callable[[list[np.ndarray]], list[Member]],
) -> np.ndarray:
    """`[n, n]` with the client's gradient.

    Raises:
      GaveUp: none was found.
    """
    model, params = attempt.model, attempt.params
    degrees = model.spec.degrees(features) if model.spec.degree else None
    first = level_span(model, attempt.update, 1)

    def certain(adjacency: np.ndarray) -> np.ndarray:
        return certain_rows(model, params, features, degrees, adjacency, first)

    def fits(adjacency: np.ndarray) -> bool:
        return bool(members([adjacency]))

    found = find_edges(len(features), degrees, search, certain, fits)
    if found is not None:
        return found
    assert attempt.partial is not None
    raise GaveUp(
        "edges",
        "no search led to edges with the gradient; the nearest is "
        f"{attempt.partial.distance:.1e} of it away",
    )


def _class(
    attempt: Attempt,
    features: np.ndarray,
    adjacency: np.ndarray,
    members: Callable[[list[np.ndarray]], list[Member]],
) -> tuple[list[Member], bool]:
    """All graphs with the gradient, and whether it is all: friends alike first."""
    most, whole = attempt.limits.graphs, True
    others: list[np.ndarray] = []
    try:
        every = same_closed_neighbourhoods(adjacency)
        others = list(itertools.islice(every, most + 1))
    except GaveUp:
        whole = False
    if not others:
        others = [adjacency]
    whole &= len(others) <= most
    found = members(others[:most])
    # Among neighbours more features are shared than among others, in most networks.
    shared = features @ features.T
    found.sort(key=lambda member: -float((member.graph.adjacency * shared).sum()))
    return found, whole
