"""The space of relaxed graphs, and the way back to graphs.

As the baselines of Drencheva et al., "GRAIN: Exact Graph Reconstruction from
Gradients", ICLR 2025, arXiv 2503.01838, relax them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxinv.errors import InputError
from jaxinv.graph import Graph, GraphSpec
from jaxinv.observation import Observation, require
from jaxinv.options import check_choice, check_positive
from jaxinv.space import Space

ADJACENCIES = ("relaxed", "known")
"""Whether edges are searched for, or taken as granted."""


class GraphPoint(NamedTuple):
    """A point of the search; every number may be any."""

    features: jax.Array
    """`[n, F]`, logits of the columns."""
    edges: jax.Array | None
    """`[n (n - 1) / 2]`, logits of the pairs of nodes; None where edges are known."""
    labels: jax.Array | None
    """`[C]` or `[n, C]`, logits of the classes; None where labels are granted."""


def relaxed_graphs(
    spec: GraphSpec, *, adjacency: str = "relaxed", num_nodes: int | None = None
) -> Space:
    """Graphs whose features, edges and labels lie between zero and one.

    A softmax for each group of which a node has exactly one column and for the label, a
    sigmoid for each column of other groups and for each edge. Starts are N(0, 1).

    Args:
      spec: of the graphs.
      adjacency: one of `ADJACENCIES`.
      num_nodes: n; None requires that the observation grants it.
    """
    check_choice("adjacency", adjacency, ADJACENCIES)
    if num_nodes is not None:
        check_positive("num_nodes", num_nodes)

    def init(key: jax.Array, observation: Observation):
        n, edges = num_nodes, None
        if adjacency == "known":
            edges = require(
                observation, "adjacency", why="grant it, or attack with 'relaxed'"
            )
            if n not in (None, len(edges)):
                raise InputError(
                    f"num_nodes is {n}; expected {len(edges)} as in the adjacency"
                )
            n = len(edges)
        elif n is None:
            n = require(
                observation, "num_nodes", why="grant it, or state one as num_nodes"
            )
        a, b, c = jax.random.split(key, 3)
        features = jax.random.normal(a, (n, spec.num_features))
        pairs = jax.random.normal(b, (n * (n - 1) // 2,)) if edges is None else None
        labels, logits = observation.known.labels, None
        if labels is None:
            rows = () if spec.task == "graph" else (n,)
            logits = jax.random.normal(c, (*rows, spec.num_classes))
        elif spec.task == "graph":
            labels = labels[0]
        return GraphPoint(features, pairs, logits), (edges, labels)

    def decode(z: GraphPoint, given: Any) -> Graph:
        edges, labels = given
        n = len(z.features)
        parts = []
        for group in spec.groups:
            logits = z.features[:, spec.columns(group.name)]
            squash = jax.nn.softmax if group.exclusive else jax.nn.sigmoid
            parts.append(squash(logits))
        if z.edges is not None:
            upper = jnp.zeros((n, n), z.edges.dtype)
            upper = upper.at[jnp.triu_indices(n, 1)].set(jax.nn.sigmoid(z.edges))
            edges = upper + upper.T
        if z.labels is not None:
            labels = jax.nn.softmax(z.labels)
        mask = jnp.ones(n, z.features.dtype)
        return Graph(jnp.concatenate(parts, 1), edges, mask, labels)

    return Space(init, decode, lambda z: z)


def snapped(graph: Graph, spec: GraphSpec) -> Graph:
    """The nearest graph: the likeliest column of a group, edges and columns from 0.5.

    Nothing is said about degrees: features may state others than the edges have.

    Args:
      graph: relaxed, see `relaxed_graphs`.
      spec: of the graphs.
    """
    parts = []
    for group in spec.groups:
        part = graph.features[:, spec.columns(group.name)]
        hot = jax.nn.one_hot(part.argmax(1), group.size, dtype=part.dtype)
        parts.append(hot if group.exclusive else (part > 0.5).astype(part.dtype))
    edges, labels = jnp.asarray(graph.adjacency), jnp.asarray(graph.labels)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        labels = labels.argmax(-1).astype(jnp.int32)
    edges = (edges > 0.5).astype(edges.dtype)
    return Graph(jnp.concatenate(parts, 1), edges, graph.mask, labels)
