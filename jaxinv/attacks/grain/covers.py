"""Covers: larger graphs that a mean over nodes does not tell from a smaller one.

Where two copies of a graph exchange the ends of an edge, every node keeps its type, so
the gradient stays. (Angluin 1980, local and global properties in networks of
processors, has covers; their use here is ours.)
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from jaxinv.graph import Domain, Graph
from jaxinv.isomorphism import Different, colours, isomorphic


def copies(graph: Graph, times: int) -> Graph:
    """The graph beside itself."""
    return Graph(
        np.tile(graph.features, (times, 1)),
        np.kron(np.eye(times, dtype=np.float32), graph.adjacency),
        np.tile(graph.mask, times),
        np.tile(graph.labels, times) if np.ndim(graph.labels) else graph.labels,
    )


def is_copies(graph: Graph, smaller: Graph) -> bool:
    """Whether it is the smaller graph, two or more times."""
    times, rest = divmod(len(graph.mask), len(smaller.mask))
    return not rest and times > 1 and isomorphic(graph, copies(smaller, times))


def crossed(graph: Graph, depth: int, domain: Domain, until: float) -> list[Graph]:
    """A graph of twice the nodes that is not two copies, or none if there is none.

    Of those that one exchange between two copies makes. Without a domain that decides
    for all multiples of the graph: exchanges lead from any graph of given types to any
    other, and one that changes something takes two copies at most.

    Args:
      graph: the only one of its types and size.
      depth: of the network; ends are exchanged that look alike one level below.
      domain: what rules graphs out.
      until: when to stop looking, on the monotonic clock.

    Returns:
      One graph at most.
    """
    look = colours(graph, graph, depth - 1)[0]
    twice = copies(graph, 2)
    different = Different(np.tile(look, 2))
    different.add(np.asarray(twice.adjacency))
    for adjacency in _exchanges(np.asarray(graph.adjacency), look):
        if time.monotonic() > until:
            break
        if different.add(adjacency):
            found = twice._replace(adjacency=adjacency)
            if domain.cost is None or domain.cost(found) < np.inf:
                return [found]
    return []


def _exchanges(adjacency: np.ndarray, look: np.ndarray) -> Iterator[np.ndarray]:
    """`[2n, 2n]`: two copies, with u - v and x' - y' become u - y' and x' - v."""
    n = len(adjacency)
    twice = np.kron(np.eye(2, dtype=np.float32), adjacency)
    arcs = np.argwhere(adjacency).tolist()
    for u, v in arcs:
        for x, y in arcs:
            if look[u] != look[x] or look[v] != look[y] or (u, v) > (x, y):
                continue
            found = twice.copy()
            for a, b, value in (
                (u, v, 0),
                (x + n, y + n, 0),
                (u, y + n, 1),
                (x + n, v, 1),
            ):
                found[a, b] = found[b, a] = value
            yield found
