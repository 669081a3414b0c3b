"""One's own graphs: from arrays, or from networkx with features on its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxinv.data.graphs.networks import DEGREE, WORDS, with_degrees
from jaxinv.errors import InputError
from jaxinv.graph import FeatureGroup, Graph, GraphSpec, graph

if TYPE_CHECKING:
    from networkx import Graph as NetworkX


class Attributed(NamedTuple):
    """A graph, and what its columns mean."""

    graph: Graph
    spec: GraphSpec


def from_arrays(
    features: Any,
    edges: Any,
    label: int | Sequence[int],
    *,
    spec: GraphSpec | None = None,
    num_classes: int = 2,
    degree: bool = False,
) -> Attributed:
    """A graph of feature rows and a list of edges.

    Args:
      features: `[n, F]`, zeros and ones, without columns for the degree.
      edges: `[E, 2]` numbers of nodes, each edge once or from both ends.
      label: a class, or one for each node.
      spec: what the columns mean, those of the degree last. None for one group of
        binary columns, not normalised.
      num_classes: where `spec` is None.
      degree: where `spec` is None, whether to add columns for a degree of 0 to n - 1.

    Raises:
      InputError: names the argument and what is wrong with it.
    """
    features, labels = _numbers("features", features), np.asarray(label)
    if features.ndim != 2 or not features.size:
        raise InputError(f"features has shape {features.shape}; expected [n, F]")
    num, width = features.shape
    adjacency = _adjacency(edges, num)
    if spec is None:
        groups = [FeatureGroup(WORDS, width, exclusive=False)]
        groups += [FeatureGroup(DEGREE, num)] * degree
        task = "node" if labels.ndim else "graph"
        name = DEGREE if degree else None
        spec = GraphSpec(tuple(groups), num_classes, task=task, degree=name)
    if spec.degree is not None and width < spec.num_features:
        columns = spec.columns(spec.degree)
        if columns.stop != spec.num_features or columns.start != width:
            raise InputError(
                f"features has {width} columns; expected {columns.start}, and the "
                "degree's after them"
            )
        features = with_degrees(features, adjacency, spec)
    return Attributed(graph(features, adjacency, labels, spec), spec)


def from_networkx(
    source: NetworkX,
    *,
    features: str = "x",
    label: int | str | Sequence[int],
    spec: GraphSpec | None = None,
    num_classes: int = 2,
    degree: bool = False,
) -> Attributed:
    """A networkx graph, nodes in its own order.

    Args:
      source: undirected.
      features: the attribute of every node that holds its row of zeros and ones.
      label: a class; or the attribute of every node that holds one; or one for each.
      spec: as in `from_arrays`.
      num_classes: as there.
      degree: as there.

    Raises:
      InputError: the graph is directed or empty, an attribute is missing, rows differ
        in length, or what `from_arrays` refuses.
    """
    if source.is_directed():
        raise InputError("source is directed; expected undirected edges")
    place = {node: i for i, node in enumerate(source.nodes)}
    if not place:
        raise InputError("source has no nodes; expected at least one")
    rows = [np.ravel(row) for row in _attribute(source, features)]
    if len({len(row) for row in rows}) > 1:
        raise InputError(f"attribute {features!r} differs in length between nodes")
    labels = _attribute(source, label) if isinstance(label, str) else label
    edges = [(place[one], place[other]) for one, other in source.edges()]
    return from_arrays(
        np.stack(rows), edges, labels, spec=spec, num_classes=num_classes, degree=degree
    )


def _attribute(source: NetworkX, name: str) -> list[Any]:
    values = []
    for node, held in source.nodes(data=True):
        if name not in held:
            raise InputError(
                f"node {str(node)[:40]!r} has no attribute {name!r}; it has "
                f"{sorted(map(str, held))[:8]}"
            )
        values.append(held[name])
    return values


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{name} holds what are no numbers ({reason})") from None


def _adjacency(edges: Any, num: int) -> np.ndarray:
    edges = np.asarray(edges)
    adjacency = np.zeros((num, num), np.float32)
    if not edges.size:
        return adjacency
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "iu":
        raise InputError(
            f"edges is {edges.dtype} {edges.shape}; expected whole numbers [E, 2]"
        )
    if edges.min() < 0 or edges.max() >= num:
        raise InputError(f"edges goes beyond nodes 0 to {num - 1}")
    adjacency[edges[:, 0], edges[:, 1]] = adjacency[edges[:, 1], edges[:, 0]] = 1
    return adjacency
