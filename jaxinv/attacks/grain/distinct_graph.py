"""The graph of nodes that are all different: their features, then their edges.

Which edges there are is unique for almost all weights: with independent features,
Â relu(Â P) agrees for two adjacencies on an open set of P only if it does so for every
pattern of active units, which makes them the same. (Ours.)
"""

from __future__ import annotations

import numpy as np

from jaxinv.attacks.grain.attempt import Attempt
from jaxinv.attacks.grain.distinct import distinct_nodes
from jaxinv.attacks.grain.outcome import GaveUp, Recovered
from jaxinv.attacks.grain.relaxed_adjacency import relaxed_adjacency, starts

MOST_STARTS = 6
"""Of the search for edges."""


def distinct_graph(attempt: Attempt) -> Recovered:
    """The graph of nodes that are all different.

    Raises:
      GaveUp: the nodes are not found, or no graph of them has the gradient.
    """
    model, spec = attempt.model, attempt.model.spec
    with attempt.stage("node features"):
        nodes = distinct_nodes(model, attempt.params, attempt.update)
        attempt.counts["nodes"] = len(nodes.features)
    with attempt.stage("edges"):
        degrees = spec.degrees(nodes.features) if spec.degree else None
        for start in starts(nodes.features, degrees, MOST_STARTS):
            soft = relaxed_adjacency(
                model, attempt.params, nodes.features, nodes.embeddings, start
            )
            adjacency = np.round(soft).astype(np.float32)
            graph = attempt.graph(nodes.features, adjacency, nodes.labels)
            found = attempt.members([graph])
            if found:
                return attempt.recovered(
                    found, complete=True, nodes_up_to=found[0].size
                )
    assert attempt.partial is not None
    raise GaveUp(
        "edges",
        f"{MOST_STARTS} starts did not lead to edges with the gradient; the nearest is "
        f"{attempt.partial.distance:.1e} of it away",
    )
