"""One large network, and small graphs cut out of it: what its clients hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jaxinv.errors import InputError
from jaxinv.graph import FeatureGroup, Graph, GraphSpec, graph

WORDS = "words"
"""The group of binary columns that come with the nodes."""
DEGREE = "degree"
"""The group of columns added for the number of neighbours."""


class Network(NamedTuple):
    """Nodes with sets of binary features, and undirected edges among them."""

    features_indptr: np.ndarray
    """`[N + 1]` int64: node i has `features_indices[indptr[i]:indptr[i + 1]]`."""
    features_indices: np.ndarray
    """Columns that are 1, sorted within a node."""
    num_features: int
    """F, without columns for the degree."""
    neighbours_indptr: np.ndarray
    """`[N + 1]` int64, as above."""
    neighbours_indices: np.ndarray
    """Every edge from both ends, sorted within a node; no self loops."""
    labels: np.ndarray
    """`[N]` int32, -1 where there is none."""
    name: str
    """Of the source, for reports."""

    @property
    def num_nodes(self) -> int:
        """N."""
        return len(self.labels)

    def neighbours(self, node: int) -> np.ndarray:
        """Of one node, sorted."""
        start, end = self.neighbours_indptr[node : node + 2]
        return self.neighbours_indices[start:end]

    def features(self, nodes: np.ndarray) -> np.ndarray:
        """`[n, F]` float32 zeros and ones."""
        dense = np.zeros((len(nodes), self.num_features), np.float32)
        for row, node in zip(dense, nodes, strict=True):
            start, end = self.features_indptr[node : node + 2]
            row[self.features_indices[start:end]] = 1
        return dense


def network_spec(
    network: Network,
    *,
    degree: bool = True,
    max_degree: int = 99,
    num_classes: int | None = None,
) -> GraphSpec:
    """Binary columns, then one-hot columns for 0 to `max_degree` neighbours.

    Mean and std of the binary columns are over all nodes of the network, which is
    public as a data set is. Those of the degree columns are left at 0 and 1: a degree
    is counted inside a client's graph, so it takes such graphs to measure it, which
    `with_degrees_of` does.

    Args:
      network: the source.
      degree: whether there are columns for it.
      max_degree: the largest they can state.
      num_classes: None for as many as the network's labels have.
    """
    if max_degree < 0:
        raise InputError(f"max_degree is {max_degree!r}; expected >= 0")
    if num_classes is None:
        num_classes = int(network.labels.max()) + 1
    counts = np.bincount(network.features_indices, minlength=network.num_features)
    share = counts / network.num_nodes
    mean, std = share.tolist(), np.sqrt(share * (1 - share)).tolist()
    groups = [FeatureGroup(WORDS, network.num_features, exclusive=False)]
    if degree:
        groups.append(FeatureGroup(DEGREE, max_degree + 1))
        mean += [0.0] * (max_degree + 1)
        std += [1.0] * (max_degree + 1)
    return GraphSpec(
        tuple(groups),
        num_classes,
        degree=DEGREE if degree else None,
        mean=tuple(mean),
        std=tuple(std),
    )


def with_degrees_of(graphs: Iterable[Graph], spec: GraphSpec) -> GraphSpec:
    """The spec with mean and std of its degree columns over all nodes of graphs.

    The other columns keep theirs; without degree columns nothing changes.
    """
    graphs = list(graphs)
    if spec.degree is None or not graphs:
        return spec
    columns = spec.columns(spec.degree)
    over = spec.measured(graphs)
    mean, std = list(spec.mean), list(spec.std)
    mean[columns], std[columns] = over.mean[columns], over.std[columns]
    return dataclasses.replace(spec, mean=tuple(mean), std=tuple(std))


def subgraph(
    network: Network, nodes: Iterable[int], spec: GraphSpec, label: int
) -> Graph:
    """The graph induced by some nodes, in their order.

    Degree columns state the neighbours inside the graph, which is what its client
    sees and what its adjacency says.

    Raises:
      InputError: nodes repeat or are unknown, the spec is not of this network, a
        degree is above what its columns can state.
    """
    nodes = np.asarray(list(nodes), np.int64)
    if not len(nodes) or len(np.unique(nodes)) < len(nodes):
        raise InputError(f"nodes has {len(nodes)} entries; expected distinct ones")
    if nodes.min() < 0 or nodes.max() >= network.num_nodes:
        raise InputError(f"nodes goes beyond 0 to {network.num_nodes - 1}")
    place = {node: i for i, node in enumerate(nodes.tolist())}
    adjacency = np.zeros((len(nodes), len(nodes)), np.float32)
    for i, node in enumerate(nodes):
        inside = [place[n] for n in network.neighbours(node).tolist() if n in place]
        adjacency[i, inside] = 1
    features = with_degrees(network.features(nodes), adjacency, spec)
    return graph(features, adjacency, label, spec)


def with_degrees(
    features: np.ndarray, adjacency: np.ndarray, spec: GraphSpec
) -> np.ndarray:
    """Features with one-hot columns of the degree after them, if the spec has them.

    Raises:
      InputError: a degree is above what the columns can state.
    """
    if spec.degree is None:
        return features
    columns = spec.columns(spec.degree)
    size = columns.stop - columns.start
    degrees = np.asarray(adjacency).sum(1).astype(np.int64)
    if degrees.max() >= size:
        raise InputError(
            f"node {int(degrees.argmax())} has degree {int(degrees.max())}; the spec "
            f"states at most {size - 1}"
        )
    return np.concatenate([features, np.eye(size, dtype=np.float32)[degrees]], 1)
