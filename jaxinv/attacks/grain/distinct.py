"""Graphs whose nodes are all different: features by factoring the first gradient.

With words instead of one choice per group, rows of features cannot be enumerated. But a
word's row of the gradient (its mean taken out by the bias) is the sum of the slopes of
the nodes that have the word: R = X^T D, X of zeros and ones. With n independent slopes
the column space of R holds every node's column of X, and these are vertices of the
polytope of what lies between 0 and 1 in it. Linear programs find them. (Ours; GRAIN
filters features one after the other.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize

from jaxinv.attacks.grain.multiplicities import shares, system
from jaxinv.attacks.grain.node_types import (
    column_sums,
    present_columns,
    unidentifiable,
)
from jaxinv.attacks.grain.outcome import GaveUp
from jaxinv.attacks.span import span
from jaxinv.models.graph_networks.base import GraphModel

STAGE = "node features"
TRIES = 30
"""Linear programs for each node, before giving up."""
WHOLE = 0.02
"""How far from 0 and 1 an entry of a node's features may be found."""
SLACK = 1e-4
"""Of the polytope, for rounding."""
ALIKE = 0.05
"""By how much of it the nodes' shares, all 1 / n, may differ."""


class Nodes(NamedTuple):
    """All nodes of a graph, in an arbitrary order."""

    features: np.ndarray
    """`[n, F]` zeros and ones."""
    embeddings: np.ndarray
    """`[n, D]` float64, of the last level."""
    labels: np.ndarray
    """`[n]`, of a node task."""


def distinct_nodes(model: GraphModel, params: Any, update: Any) -> Nodes:
    """Every node, if no two nodes have linearly dependent features.

    Other mixtures of the nodes may be zeros and ones as well. Every vertex comes with
    the readout's input that it would have, and that input with a slope; only the true
    nodes' slopes add up to the gradient.

    Args:
      model: the network, whose readout is fed the features too.
      params: its weights.
      update: the gradient.

    Raises:
      GaveUp: the rank says nothing, or the true nodes are not among those found.
    """
    spec = model.spec
    matrix = np.asarray(model.factors(update, model.depth)[0].matrix)
    left = len(matrix) - 1 - model.width
    if left != spec.num_features:
        raise GaveUp(
            STAGE, "the readout is not fed the features: embeddings are not known"
        )
    whole = span([matrix])
    wide = matrix.astype(np.float64)
    rows = np.concatenate([wide[:left], wide[-1:]])
    sums, present = column_sums(spec, rows), present_columns(spec, rows)
    inner = span([sums[present].astype(matrix.dtype)])
    for found in (whole, inner):
        if not found.identifiable:
            raise GaveUp(STAGE, unidentifiable(found, "nodes"))
    dual = inner.right / inner.values / inner.scale
    reason = "no corner found"
    for corners in _corners(inner.basis, wide[-1] @ dual):
        features = np.zeros((len(corners), spec.num_features), np.float32)
        exact = np.round(inner.basis @ corners.T).T
        features[:, present] = exact
        embeddings = corners @ (wide[left:-1] @ dual).T
        fed = np.asarray(
            model.readout_inputs(spec.normalise(features.astype(float)), embeddings)
        )
        fed = np.concatenate([fed, np.ones((len(fed), 1))], 1)
        found = system(model, params, update, fed, whole)
        try:
            solution, _ = shares(found)
        except GaveUp as end:
            reason = end.reason
            continue
        chosen = np.flatnonzero(solution > 1e-6)
        nodes = found.entries.types[chosen]
        if len(nodes) != whole.rank or np.ptp(solution[chosen]) > ALIKE / len(nodes):
            reason = f"{len(nodes)} different nodes explain a rank of {whole.rank}"
            continue
        return Nodes(features[nodes], embeddings[nodes], found.entries.labels[chosen])
    raise GaveUp(
        STAGE,
        f"{reason}: two nodes are alike, or too many of their features are shared",
    )


def _corners(basis: np.ndarray, everyone: np.ndarray) -> Iterator[np.ndarray]:
    """Growing sets `[m, n]` of coordinates of vertices that are zeros and ones.

    Args:
      basis: `[P, n]`, orthonormal, of the column space.
      everyone: `[n]`, the functional that is 1 at every node.
    """
    num = basis.shape[1]
    # Words of the same nodes have the same row.
    _, first = np.unique(np.round(basis / SLACK), axis=0, return_index=True)
    few = basis[np.sort(first)]
    rng = np.random.default_rng(0)
    bounds = np.concatenate([np.full(len(few), 1 + SLACK), np.full(len(few), SLACK)])
    sides = np.concatenate([few, -few])
    known: set[bytes] = set()
    corners: list[np.ndarray] = []
    check = num
    for _ in range(TRIES * num):
        answer = scipy.optimize.linprog(
            few.T @ rng.normal(size=len(few)),
            A_ub=sides,
            b_ub=bounds,
            A_eq=everyone[None],
            b_eq=[1.0],
            bounds=(None, None),
        )
        if answer.x is None:
            continue
        exact = basis @ answer.x
        row = np.round(exact)
        name = row.astype(np.int8).tobytes()
        if np.abs(exact - row).max() > WHOLE or name in known:
            continue
        known.add(name)
        # Off the slack of the vertex, by least squares on the rounded row.
        corners.append(basis.T @ row)
        if len(corners) >= check:
            yield np.stack(corners)
            check = len(corners) + max(1, num // 4)
