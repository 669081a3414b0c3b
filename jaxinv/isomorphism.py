"""Whether two graphs are the same but for the order of their nodes.

Nodes are coloured by refinement (Weisfeiler and Leman 1968) first. All on the host.
"""

from __future__ import annotations

from collections import Counter

import networkx
import numpy as np

from jaxinv.errors import InputError
from jaxinv.graph import Graph, real


def isomorphic(truth: Graph, guess: Graph | None) -> bool:
    """Whether the guess is the truth with its nodes in another order, features and all.

    Raises:
      InputError: the graphs differ in columns or hold values other than 0 and 1.
    """
    return guess is not None and isomorphism(truth, guess) is not None


def isomorphism(truth: Graph, guess: Graph) -> np.ndarray | None:
    """`[n]` nodes of the guess in the order of the truth's, or None if there is none.

    By VF2 (Cordella et al. 2004), component by component and among nodes of one colour
    only: without either it would try, say, every order of ten equal rings.

    Raises:
      InputError: the graphs differ in columns or hold values other than 0 and 1.
    """
    width = truth.features.shape[1]
    truth, guess = checked(truth, width), checked(guess, width)
    n, edges = len(truth.features), truth.adjacency.sum()
    if len(guess.features) != n or guess.adjacency.sum() != edges:
        return None
    mine, yours = colours(truth, guess, rounds=n)
    if not np.array_equal(np.sort(mine), np.sort(yours)):
        return None
    found = _matched(
        _components(truth.adjacency, mine), _components(guess.adjacency, yours)
    )
    if found is None:
        return None
    order = np.zeros(n, int)
    order[list(found)] = list(found.values())
    return order


def colours(truth: Graph, guess: Graph, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """`[n]` integers for each graph, equal where nodes look alike `rounds` edges away.

    Refines the feature rows, and tells at least as much apart as a graph network of so
    many layers does. Stops when nothing changes.
    """
    cut = len(truth.features)
    adjacency = np.zeros((cut + len(guess.features),) * 2)
    adjacency[:cut, :cut] = truth.adjacency
    adjacency[cut:, cut:] = guess.adjacency
    rows = np.concatenate([truth.features, guess.features])
    found = _refined(_ranks(rows), adjacency, rounds)
    return found[:cut], found[cut:]


class Different:
    """Graphs of one set of coloured nodes, each up to isomorphism once."""

    def __init__(self, colour: np.ndarray):
        """`colour`: `[n]` integers, the same of every graph."""
        self.colour = colour
        self.met: dict[bytes, list[list]] = {}

    def add(self, adjacency: np.ndarray) -> bool:
        """Whether no graph added before is isomorphic to this one `[n, n]`."""
        # Here since SciPy takes a third of a second to import.
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import shortest_path

        n = len(self.colour)
        # Refinement alone does not tell a ring from two of half its size.
        far = shortest_path(csr_array(adjacency), unweighted=True)
        far = np.sort(np.minimum(far, n), axis=1)
        seen = np.column_stack([self.colour, far])
        found = _refined(_ranks(seen), adjacency, n)
        profile = np.column_stack([found, seen, adjacency @ np.eye(n)[found]])
        key = profile[np.lexsort(profile.T)].astype(np.int16).tobytes()
        parts = _components(adjacency, found)
        others = self.met.setdefault(key, [])
        if any(_matched(parts, other) is not None for other in others):
            return False
        others.append(parts)
        return True


def order(graph: Graph) -> np.ndarray:
    """`[n]` the nodes in an order that does not depend on the given one.

    Nodes that look alike are told apart one by one, and the others refined again. Where
    such nodes were no mirror images of each other, as in a hexagon beside two triangles
    with equal features, the given order still decides.
    """
    n = len(graph.features)
    found = _refined(_ranks(graph.features), graph.adjacency, n)
    while (repeated := np.bincount(found) > 1).any():
        first = np.flatnonzero(found == repeated.argmax())[0]
        found = 2 * found
        found[first] -= 1
        found = _refined(_ranks(found[:, None]), graph.adjacency, n)
    return np.argsort(found)


def checked(graph: Graph, num_features: int) -> Graph:
    """The graph without padding, in float64.

    Raises:
      InputError: it has other columns, or values other than 0 and 1.
    """
    graph = real(graph)
    features, adjacency = (np.asarray(a, np.float64) for a in graph[:2])
    if features.shape[1] != num_features:
        raise InputError(
            f"features has {features.shape[1]} columns; expected {num_features}"
        )
    for name, value in (("features", features), ("adjacency", adjacency)):
        if not np.isin(value, (0, 1)).all():
            raise InputError(
                f"{name} holds values other than 0 and 1; round a guess first"
            )
    return graph._replace(features=features, adjacency=adjacency)


def _components(adjacency: np.ndarray, colour: np.ndarray) -> list:
    """Connected graphs of networkx whose nodes have their colour."""
    whole = networkx.from_numpy_array(adjacency)
    networkx.set_node_attributes(whole, dict(enumerate(colour.tolist())), "colour")
    parts = networkx.connected_components(whole)
    return [whole.subgraph(nodes).copy() for nodes in parts]


def _matched(parts: list, others: list) -> dict[int, int] | None:
    """Nodes of the one for nodes of the other, or None where they differ."""
    left, order = list(others), {}
    # Graphs that equal a third equal each other, so the first that fits will do.
    for part in parts:
        for other in left:
            found = _vf2(part, other)
            if found is not None:
                order |= found
                left.remove(other)
                break
        else:
            return None
    return None if left else order


def _vf2(truth, guess) -> dict[int, int] | None:
    counts = [Counter(dict(part.nodes("colour")).values()) for part in (truth, guess)]
    if counts[0] != counts[1] or truth.size() != guess.size():
        return None
    match = networkx.isomorphism.categorical_node_match("colour", None)
    matcher = networkx.isomorphism.GraphMatcher(truth, guess, node_match=match)
    return dict(matcher.mapping) if matcher.is_isomorphic() else None


def _refined(found: np.ndarray, adjacency: np.ndarray, rounds: int) -> np.ndarray:
    for _ in range(rounds):
        near = adjacency @ np.eye(found.max() + 1)[found]
        # The own colour comes first, so that ranks only ever split.
        finer = _ranks(np.column_stack([found, near]))
        if finer.max() == found.max():
            break
        found = finer
    return found


def _ranks(rows: np.ndarray) -> np.ndarray:
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
