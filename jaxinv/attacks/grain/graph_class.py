"""From types of nodes to the class of graphs that have the client's gradient."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from jaxinv.attacks.grain.assembly import Search
from jaxinv.attacks.grain.attempt import Attempt, Member
from jaxinv.attacks.grain.counting import integer_counts, proportional_counts
from jaxinv.attacks.grain.covers import crossed, is_copies
from jaxinv.attacks.grain.drift import switched
from jaxinv.attacks.grain.multiplicities import Counts, shares, system
from jaxinv.attacks.grain.outcome import GaveUp, Recovered
from jaxinv.attacks.grain.tower import base_index
from jaxinv.attacks.grain.types import Types
from jaxinv.attacks.span import Span
from jaxinv.graph import Graph
from jaxinv.isomorphism import Different

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
        least = attempt.least_nodes
        return proportional_counts(found, solution, last, least, most)
    # A sum over nodes has at most their number as its rank.
    least = max(whole.rank, attempt.least_nodes)
    return integer_counts(found, last, least, most, attempt.deadline)


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
            found += [
                member
                for member in members
                if not any(is_copies(member.graph, other.graph) for other in found)
            ]
            if any(member.cost < np.inf for member in found):
                smallest = min(member.size for member in found)
                most = min(most, max(limits.class_nodes, smallest))
    except GaveUp:
        if not found:
            raise
        complete = False
    if not found:
        reason = f"none of {tried} sets of nodes makes a graph"
        if not tried:
            reason = f"no set of up to {limits.nodes} nodes has the shares of the types"
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
    if complete and len(possible) == 1:
        possible += _larger(attempt, tower, possible[0].graph)
    return attempt.recovered(possible, complete=complete, nodes_up_to=most)


def _realised(
    attempt: Attempt, tower: list[Types], counts: Counts
) -> tuple[list[Member], bool]:
    """Different graphs of these nodes with the gradient, and whether it is all.

    Which of several nodes of one type has which label, no gradient says: they are dealt
    out in order.
    """
    spec, most = attempt.model.spec, attempt.limits.graphs
    features = spec.denormalise(tower[0].rows[base_index(tower)])[counts.types]
    different = Different(counts.types)
    search = Search(tower[-1], counts.types, attempt.deadline, attempt.domain)
    fresh: list[Graph] = []
    for adjacency in _likely_first(search):
        if different.add(adjacency):
            fresh.append(attempt.graph(features, adjacency, counts.labels))
        if len(fresh) >= most:
            break
    # Their nodes have the same types, and so they have the same gradient.
    members = attempt.members(fresh, alike=True)
    return members, not search.exhausted and len(fresh) < most


def _larger(attempt: Attempt, tower: list[Types], only: Graph) -> list[Member]:
    """A graph of twice the nodes beside the only one, where there is one."""
    if 2 * len(only.mask) > attempt.limits.nodes:
        return []
    until = time.monotonic() + attempt.limits.seconds
    return attempt.members(crossed(only, attempt.model.depth, attempt.domain, until))


def _likely_first(search: Search) -> Iterator[np.ndarray]:
    """Adjacencies, by what the domain says of rings and pieces.

    A bound on the cost is raised step by step (Korf 1985, iterative deepening).
    """
    above, most = -1.0, 0.0
    while not search.exhausted:
        yield from search.graphs(above, most)
        if search.beyond == np.inf:
            return
        above, most = most, max(search.beyond, most + COST_STEP)
