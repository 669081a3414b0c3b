"""Graphs as JSON can say them, so that a report can be drawn again from its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxinv.graph import Graph, real


def packed(graph: Graph) -> dict[str, Any]:
    """A graph without its padding: columns that are 1, edges, labels."""
    graph = real(graph)
    bonded = np.argwhere(np.triu(graph.adjacency, 1))
    return {
        "nodes": [np.flatnonzero(row).tolist() for row in graph.features],
        "edges": bonded.tolist(),
        "labels": np.asarray(graph.labels).tolist(),
    }


def unpacked(entry: Mapping[str, Any], num_features: int) -> Graph:
    """The graph of `packed`."""
    num = len(entry["nodes"])
    features = np.zeros((num, num_features), np.float32)
    for row, columns in zip(features, entry["nodes"], strict=True):
        row[columns] = 1
    adjacency = np.zeros((num, num), np.float32)
    for one, other in entry["edges"]:
        adjacency[one, other] = adjacency[other, one] = 1
    labels = np.asarray(entry["labels"], np.int32)
    return Graph(features, adjacency, np.ones(num, np.float32), labels)
