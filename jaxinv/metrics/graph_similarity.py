"""How alike two graphs look to a random graph network, node by matched node.

The graph similarity metrics GSM-k of Drencheva et al., "GRAIN: Exact Graph
Reconstruction from Gradients", ICLR 2025 (arXiv 2503.01838), and its FULL. They look
no further than k edges away, so 1 does not mean that the graphs are the same one:
`jaxinv.metrics.isomorphic` says that.

Features are fed to the network as `GraphSpec.normalise` leaves them, as in the released
code of GRAIN: compare scores under one spec only. A column that never varies in the
public data is 0 there, and only GSM-0 and `isomorphic` see it.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import numpy as np

from jaxinv.errors import InputError
from jaxinv.graph import Graph, GraphSpec
from jaxinv.isomorphism import checked, colours, order

LAYERS = 5
HIDDEN = 300
SEED = 0
"""Of the network's weights: scores are comparable only if all use the same ones."""


class NodeMatch(NamedTuple):
    """Which node of a guess stands for which of the truth; the larger has some left."""

    truth: np.ndarray
    """`[m]` nodes of the truth, m the smaller number of nodes."""
    guess: np.ndarray
    """`[m]` their partners."""


def gsm(truth: Graph, guess: Graph | None, spec: GraphSpec, k: int) -> float:
    """GSM-k in [0, 1], 0 for no guess.

    Each is multiplied by the smaller number of nodes over the larger one.

    GSM-0 is the share of matched nodes whose category is right, averaged over groups
    weighted by their number of columns. In the released code this score, scikit-learn's
    weighted recall, is filed under `f` and the F1 score under `r`. A column of a group
    that is not exclusive counts as a group of its own, right where the bits agree;
    the released code takes its argmax, which is always right.

    GSM-1 and GSM-2 are R2 of the flattened outputs of that layer, on the subgraphs
    induced by the matched nodes.

    Args:
      truth: the client's graph.
      guess: a reconstruction, padded or not.
      spec: names the groups of columns and how features are normalised.
      k: 0, 1 or 2.

    Raises:
      InputError: k is another one, or a graph does not have the spec's columns, zeros
        and ones.
    """
    if k not in (0, 1, 2):
        raise InputError(f"k is {k!r}; expected 0, 1 or 2")
    if guess is None or not guess.num_nodes:
        return 0.0
    match = match_nodes(truth, guess, spec)
    return matched_gsm(truth, guess, spec, match)[k]


def full(truth: Graph, guess: Graph | None, spec: GraphSpec) -> bool:
    """Whether GSM-1 is 1: the sum over every node and its neighbours is right.

    A hexagon and two triangles of equal nodes are FULL of each other.

    Float equality is safe here. R2 has the rounding errors squared, 1e-32 of what it is
    compared with, so that they vanish beside 1; and the least true difference, one edge
    or one category of one node, is far above the 1e-16 that could vanish as well.
    """
    return gsm(truth, guess, spec, 1) == 1


def matched_gsm(
    truth: Graph, guess: Graph, spec: GraphSpec, match: NodeMatch
) -> tuple[float, float, float]:
    """GSM-0, GSM-1 and GSM-2 under a matching of the nodes."""
    truth, guess = (checked(g, spec.num_features) for g in (truth, guess))
    sizes = len(truth.features), len(guess.features)
    factor = min(sizes) / max(sizes)
    truth, guess = _induced(truth, match.truth), _induced(guess, match.guess)
    outputs = []
    for graph in (truth, guess):
        loops = graph.adjacency + np.eye(len(graph.adjacency))
        outputs.append(_outputs(spec.normalise(graph.features), loops, depth=2))
    right = _right(truth.features, guess.features, spec)
    first, second = (
        max(0.0, _r2(t, g) * factor) for t, g in zip(*outputs, strict=True)
    )
    return right * factor, first, second


def match_nodes(truth: Graph, guess: Graph, spec: GraphSpec) -> NodeMatch:
    """The matching that is nearest by features and the outputs of all layers.

    Distances are squared Euclidean ones, summed over the features and five layers of
    the network without self loops; the sum over all pairs is least. Where nodes look
    alike to the network, any of them would do and the scores would depend on their
    order. So partners are exchanged among such nodes, at no cost, to share edges, and
    ties go by an order of our own (the released code keeps the solver's first answer).
    """
    # Here since SciPy's optimisers take half a second to import.
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    truth, guess = (checked(g, spec.num_features) for g in (truth, guess))
    mine, yours = order(truth), order(guess)
    truth, guess = _induced(truth, mine), _induced(guess, yours)
    views = []
    for graph in (truth, guess):
        rows = spec.normalise(graph.features)
        views.append(np.hstack([rows, *_outputs(rows, graph.adjacency, LAYERS)]))
    pairs = linear_sum_assignment(cdist(views[0], views[1], "sqeuclidean"))
    pairs = _sharing_edges(truth, guess, NodeMatch(*pairs))
    return NodeMatch(mine[pairs.truth], yours[pairs.guess])


def _induced(graph: Graph, nodes: np.ndarray) -> Graph:
    """With these nodes, in this order, and the edges between them."""
    features, adjacency = graph.features[nodes], graph.adjacency[np.ix_(nodes, nodes)]
    return graph._replace(features=features, adjacency=adjacency)


def _sharing_edges(truth: Graph, guess: Graph, match: NodeMatch) -> NodeMatch:
    mine, yours = colours(truth, guess, LAYERS)
    # How many partners of either colour are left: the cost depends on nothing else.
    slots = np.zeros((mine.max() + 1, yours.max() + 1))
    np.add.at(slots, (mine[match.truth], yours[match.guess]), 1)
    gain = np.zeros((len(mine), len(yours)))
    pairs = []
    for _ in match.truth:
        left = slots[np.ix_(mine, yours)]
        # Rare pairs first where edges do not decide: they are the least ambiguous.
        worth = np.where(left > 0, gain + 0.5 / np.maximum(left, 1), -np.inf)
        i, j = np.unravel_index(worth.argmax(), worth.shape)
        pairs.append((i, j))
        slots[mine[i], yours[j]] -= 1
        # Both have the edge, or neither, or one has what the other lacks.
        a, b = truth.adjacency[:, i, None], guess.adjacency[None, :, j]
        gain += a * b - np.abs(a - b)
        gain[i], gain[:, j] = -np.inf, -np.inf
    return NodeMatch(*np.array(sorted(pairs)).T)


def _right(truth: np.ndarray, guess: np.ndarray, spec: GraphSpec) -> float:
    total = 0.0
    for group in spec.groups:
        columns = spec.columns(group.name)
        t, g = truth[:, columns], guess[:, columns]
        same = t.argmax(1) == g.argmax(1) if group.exclusive else (t > 0.5) == (g > 0.5)
        total += group.size * same.mean()
    return float(total / spec.num_features)


def _r2(truth: np.ndarray, guess: np.ndarray) -> float:
    missed, spread = ((truth - guess) ** 2).sum(), ((truth - truth.mean()) ** 2).sum()
    if spread == 0:
        # As scikit-learn has it: nothing to explain, and explained or not.
        return float(missed == 0)
    return float(1 - missed / spread)


def _outputs(features: np.ndarray, adjacency: np.ndarray, depth: int) -> list:
    """Outputs of the first layers; the adjacency matrix is used as it is."""
    found, hidden = [], features
    for layer, weights in enumerate(_weights(features.shape[1])[:depth], 1):
        hidden = adjacency @ (hidden @ weights)
        if layer < LAYERS:
            hidden = np.maximum(hidden, 0)
        found.append(hidden)
    return found


@functools.lru_cache(maxsize=4)
def _weights(num_features: int) -> list[np.ndarray]:
    """Xavier's uniform ones."""
    rng = np.random.default_rng(SEED)
    shapes = itertools.pairwise([num_features] + [HIDDEN] * LAYERS)
    limits = [((6 / sum(shape)) ** 0.5, shape) for shape in shapes]
    return [rng.uniform(-limit, limit, shape) for limit, shape in limits]
