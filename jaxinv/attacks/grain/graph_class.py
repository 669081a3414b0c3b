"""From types of nodes to the class of graphs that have the client's gradient."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from jaxinv.attacks.grain.assembly import Search, kinds
from jaxinv.attacks.grain.attempt import Attempt, Member
from jaxinv.attacks.grain.counting import integer_counts, proportional_counts
from jaxinv.attacks.grain.drift import switched
from jaxinv.attacks.grain.edge_counts import edge_counts
from jaxinv.attacks.grain.multiplicities import Counts, shares, system
from jaxinv.attacks.grain.outcome import GaveUp, Recovered
from jaxinv.attacks.grain.tower import base_index
from jaxinv.attacks.grain.types import Types
from jaxinv.attacks.span import Span
from jaxinv.graph import Graph
from jaxinv.isomorphism import Different, isomorphic

SIZE_COST = 0.25
"""Of a node that a graph has more than the smallest of its class."""
COST_STEP = 1.0
"""How much more a graph may cost each time that the likelier ones are all found."""


def node_sets(attempt: Attempt, tower: list[Types], whole: Span) -> Iterator[Counts]:
    """Sets of nodes that the readout's gradient allows, the smallest first.

    Args:
      attempt: the run.
      tower: types of all levels.
      whole: the span of what the readout is fed of the last level.

    Raises:
      GaveUp: no number of the types explains the gradient.
    """
    last, base = tower[-1], base_index(tower)
    fed = np.asarray(attempt.model.readout_inputs(tower[0].rows[base], last.rows))
    fed = np.concatenate([fed, np.ones((len(fed), 1))], 1)
    unsure = None
    if attempt.drift is not None:
        unsure = switched(attempt.model, attempt.drift, tower)
    model, params, update = attempt.model, attempt.params, attempt.update
    found = system(model, params, update, fed, whole, unsure)
    solution, only = shares(found)
    attempt.counts["shares determined"] = only
    most = attempt.limits.nodes
    if only:
        return proportional_counts(found, solution, last, most)
    # A sum over nodes has at most their number as its rank.
    return integer_counts(found, last, whole.rank, most, attempt.deadline)


def graph_class(
    attempt: Attempt, tower: list[Types], sets: Iterator[Counts]
) -> Recovered:
    """The class of graphs: of the smallest size, and of others within the limit.

    A mean over nodes does not count them, so covers (graphs with every type k times as
    often) have the same gradient. Copies beside each other are left out.

    Raises:
      GaveUp: no graph has the gradient.
    """
    limits = attempt.limits
    found: list[Member] = []
    complete, tried, most = True, 0, limits.nodes
    try:
        for counts in sets:
            size = len(counts.types)
            left = attempt.deadline - time.monotonic()
            if size > most:
                break
            if found and (left < 0 or len(found) >= limits.graphs):
                complete = False
                break
            tried += 1
            members, whole = _realised(attempt, tower, counts)
            complete &= whole
            found += [m for m in members if not _copies(m.graph, found)]
            if any(member.cost < np.inf for member in found):
                smallest = min(member.size for member in found)
                most = max(limits.class_nodes, smallest)
    except GaveUp:
        if not found:
            raise
        complete = False
    if not found:
        reason = f"none of {tried} sets of nodes makes a graph"
        if attempt.partial is not None:
            reason = (
                "graphs of the types were found; the gradient of the nearest is "
                f"{attempt.partial.distance:.1e} away"
            )
        elif not complete:
            reason = f"no graph of the types was met in {limits.seconds:g} s"
        raise GaveUp("assembly", reason)
    # What the domain rules out is dropped, unless it rules out everything.
    possible = [m for m in found if m.cost < np.inf] or found
    possible.sort(key=lambda member: member.cost + SIZE_COST * member.size)
    return attempt.recovered(possible, complete=complete, nodes_up_to=most)


def _realised(
    attempt: Attempt, tower: list[Types], counts: Counts
) -> tuple[list[Member], bool]:
    """Different graphs of these nodes with the gradient, and whether it is all."""
    spec, most = attempt.model.spec, attempt.limits.graphs
    features = spec.denormalise(tower[0].rows[base_index(tower)])[counts.types]
    different = Different(kinds(counts))
    searches = [
        Search(tower[-1], counts, attempt.deadline, edges, attempt.domain)
        for edges in _edges(attempt, tower, counts)
    ]
    fresh: list[Graph] = []
    for adjacency in _likely_first(searches):
        if different.add(adjacency):
            fresh.append(attempt.graph(features, adjacency, counts.labels))
        if len(fresh) >= most:
            break
    exhausted = any(search.exhausted for search in searches)
    return attempt.members(fresh), not exhausted and len(fresh) < most


def _likely_first(searches: list[Search]) -> Iterator[np.ndarray]:
    """Adjacencies of all searches, by what the domain says of rings and pieces.

    A bound on the cost is raised step by step (Korf 1985, iterative deepening).
    """
    above, most = -1.0, 0.0
    while searches:
        for search in searches:
            yield from search.graphs(above, most)
        searches = [search for search in searches if search.beyond < np.inf]
        nearest = min((search.beyond for search in searches), default=np.inf)
        above, most = most, max(nearest, most + COST_STEP)


def _edges(
    attempt: Attempt, tower: list[Types], counts: Counts
) -> list[dict[tuple[int, int], int] | None]:
    """Every possibility for the numbers of edges, or none that is known."""
    known = edge_counts(
        attempt.model, attempt.params, attempt.update, tower, counts, attempt.deadline
    )
    if known is None:
        return [None]
    numbers = known.numbers.astype(int).tolist()
    return [dict(zip(known.pairs, row, strict=True)) for row in numbers]


def _copies(graph: Graph, found: list[Member]) -> bool:
    """Whether it is a smaller graph of the class, several times."""
    for member in found:
        times, rest = divmod(len(graph.mask), member.size)
        if rest or times < 2:
            continue
        small = member.graph
        copied = Graph(
            np.tile(small.features, (times, 1)),
            np.kron(np.eye(times, dtype=np.float32), small.adjacency),
            np.tile(small.mask, times),
            graph.labels,
        )
        if isomorphic(graph, copied):
            return True
    return False
