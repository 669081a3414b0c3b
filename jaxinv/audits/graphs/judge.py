"""Judging: a client's graph beside what an attack returned.

Everything here knows the truth, and comes after the attack.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxinv.attacks.grain import Certificate, Recovered
from jaxinv.audits.facts import number
from jaxinv.audits.graphs.packing import packed
from jaxinv.audits.graphs.sources import Source
from jaxinv.graph import Graph
from jaxinv.isomorphism import colours, isomorphic, isomorphism
from jaxinv.metrics import judge_graph
from jaxinv.metrics.graph_similarity import match_nodes

KEPT = 6
"""Graphs of a class that the record holds, the pick first."""


def judged(
    source: Source, index: int, found: Recovered, seconds: float
) -> dict[str, Any]:
    """The record's entry for one graph.

    Args:
      source: holds the truth.
      index: of the graph in it.
      found: what the attack returned.
      seconds: that it took, compiling and all.

    Returns:
      Ready for JSON. "exact": the pick is the client's graph. "in_class": that is
      among the graphs returned. "labels_right": of a node task, whether the pick's
      nodes have the classes that they should, but for nodes that look alike. "match":
      pairs of nodes, of the truth and of the pick.
    """
    truth = source.graphs[index]
    scores = judge_graph(truth, found.graph, source.spec)
    return {
        "index": index,
        "name": source.names[index],
        "smiles": source.smiles[index],
        "num_nodes": truth.num_nodes,
        "num_edges": int(np.asarray(truth.adjacency).sum()) // 2,
        "certificate": found.certificate.value,
        "exact": scores.isomorphic,
        "in_class": scores.isomorphic
        or any(isomorphic(truth, other) for other in found.graphs),
        "class_size": len(found.graphs),
        "complete": bool(found.complete),
        "nodes_up_to": found.nodes_up_to,
        "wrong_unique": found.certificate is Certificate.UNIQUE
        and not scores.isomorphic,
        "distance": number(found.distance),
        "gsm0": number(scores.gsm0),
        "gsm1": number(scores.gsm1),
        "gsm2": number(scores.gsm2),
        "full": bool(scores.full),
        "node_share": number(scores.node_share),
        "edge_share": number(scores.edge_share),
        "labels_right": source.spec.task == "node"
        and _labels_right(truth, found.graph),
        "stage": found.stage,
        "reason": found.reason,
        "seconds": number(seconds),
        "stage_seconds": {k: number(v) for k, v in found.seconds.items()},
        "counts": {k: str(v) for k, v in found.counts.items()},
        "match": _match(source, truth, found.graph),
        "truth": packed(truth),
        "pick": None if found.graph is None else packed(found.graph),
        "class": [packed(graph) for graph in found.graphs[:KEPT]],
    }


def controlled(
    source: Source, index: int, found: Recovered, seconds: float
) -> dict[str, Any]:
    """The record's entry for a control, which must have found nothing."""
    return {
        "index": index,
        "name": source.names[index],
        "certificate": found.certificate.value,
        "solved": found.certificate is not Certificate.GAVE_UP,
        "exact": isomorphic(source.graphs[index], found.graph),
        "stage": found.stage,
        "reason": found.reason,
        "seconds": number(seconds),
    }


def _labels_right(truth: Graph, guess: Graph | None) -> bool:
    """Which of two nodes that look alike has which label, nobody can tell."""
    if guess is None or guess.num_nodes != truth.num_nodes:
        return False
    looks = colours(truth, guess, truth.num_nodes)
    mine, yours = (
        sorted(zip(look.tolist(), np.asarray(graph.labels).tolist(), strict=True))
        for look, graph in zip(looks, (truth, guess), strict=True)
    )
    return mine == yours


def _match(source: Source, truth: Graph, guess: Graph | None) -> list[list[int]]:
    if guess is None or not guess.num_nodes:
        return []
    order = isomorphism(truth, guess)
    if order is not None:
        return [[i, int(j)] for i, j in enumerate(order)]
    pairs = match_nodes(truth, guess, source.spec)
    return np.stack([pairs.truth, pairs.guess], 1).tolist()
