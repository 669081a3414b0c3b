"""Metrics of recovered graphs: the same graph, or how near to it.

All on the host, in NumPy and float64. Labels do not count.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from jaxinv.graph import Graph, GraphSpec, real
from jaxinv.isomorphism import checked, isomorphism
from jaxinv.metrics.graph_similarity import (
    NodeMatch,
    match_nodes,
    matched_gsm,
)


class GraphScores(NamedTuple):
    """What a judge says about a reconstruction: 0 is nothing right and 1 is best."""

    isomorphic: bool
    """It is the client's graph."""
    gsm0: float
    """Share of right categories; this and the next three as `gsm` has them."""
    gsm1: float
    """Likeness of nodes with their neighbours."""
    gsm2: float
    """Likeness of nodes with all within two edges."""
    full: bool
    """GSM-1 is 1: right one edge away, which another graph can be."""
    node_share: float
    """Nodes of the truth with a twin in the guess, over the larger number of nodes."""
    edge_share: float
    """F1 score of edges between matched nodes; 1 where neither graph has edges."""


def judge_graph(truth: Graph, guess: Graph | None, spec: GraphSpec) -> GraphScores:
    """Scores a reconstruction by every metric of graphs; no guess scores 0.

    All but `edge_share` are those of the functions of the same names. Edges are counted
    under the matching of nodes that GSM uses, or the isomorphism if there is one. Where
    there is none and nodes look alike five edges away, `edge_share` (and GSM, if a node
    is missing) may be below what the best of their matchings has.

    Args:
      truth: the client's graph, padded or not.
      guess: a reconstruction, padded or not, or None.
      spec: what its columns mean and how they are normalised.

    Raises:
      InputError: a graph does not have the spec's columns, zeros and ones.
    """
    if guess is None or not guess.num_nodes:
        return GraphScores(False, 0.0, 0.0, 0.0, False, 0.0, 0.0)
    truth, guess = (checked(g, spec.num_features) for g in (truth, guess))
    order = isomorphism(truth, guess)
    if order is None:
        match = match_nodes(truth, guess, spec)
    else:
        match = NodeMatch(np.arange(len(order)), order)
    gsm0, gsm1, gsm2 = matched_gsm(truth, guess, spec, match)
    nodes, edges = node_share(truth, guess), _edge_share(truth, guess, match)
    return GraphScores(order is not None, gsm0, gsm1, gsm2, gsm1 == 1, nodes, edges)


def node_share(truth: Graph, guess: Graph | None) -> float:
    """Nodes with equal feature rows in both graphs over the larger number of nodes."""
    if guess is None or not guess.num_nodes:
        return 0.0
    bits = (real(graph).features > 0.5 for graph in (truth, guess))
    mine, yours = (Counter(row.tobytes() for row in rows) for rows in bits)
    return (mine & yours).total() / max(mine.total(), yours.total())


def _edge_share(truth: Graph, guess: Graph, match: NodeMatch) -> float:
    total = truth.adjacency.sum() + guess.adjacency.sum()
    if total == 0:
        return 1.0
    mine = truth.adjacency[np.ix_(match.truth, match.truth)]
    yours = guess.adjacency[np.ix_(match.guess, match.guess)]
    return float(2 * (mine * yours).sum() / total)
