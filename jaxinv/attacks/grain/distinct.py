"""Graphs whose nodes are all different: features by factoring the first gradient.

With words instead of one choice per group, rows of features cannot be enumerated. But a
word's row of the gradient (its mean taken out by the bias) is the sum of the slopes of
the nodes that have the word: R = X^T D, X of zeros and ones. With n independent slopes
the column space of R holds every node's column of X, and these are vertices of the
polytope of what lies between 0 and 1 in it. Linear programs find them. (Ours; GRAIN
filters features one after the other.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.optimize

from jaxinv.attacks.grain.multiplicities import node_slopes
from jaxinv.attacks.grain.node_types import (
    column_sums,
    present_columns,
    unidentifiable,
)
from jaxinv.attacks.grain.outcome import GaveUp
from jaxinv.attacks.span import span
from jaxinv.models.graph_networks.base import GraphModel

STAGE = "node features"
TRIES = 100
"""Linear programs for each node, before giving up."""
WHOLE = 0.02
"""How far from 0 and 1 an entry of a node's features may be found."""
SLACK = 1e-4
"""Of the polytope, for rounding."""
FITS = 1e-3
"""How far from 1 a node's slope times its own dual may be; of mixtures it is some 0.1.
"""


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

    Other mixtures of nodes may be zeros and ones as well. Every vertex comes with the
    readout's input that it would have, hence with a slope; only of a true node is that
    the slope with which it is in the gradient. A node found is taken out of the
    gradient, which leaves a smaller problem.

    Args:
      model: the network, whose readout is fed the features too.
      params: its weights.
      update: the gradient.

    Raises:
      GaveUp: the rank says nothing, or a true node was not found.
    """
    spec = model.spec
    matrix = np.asarray(model.factors(update, model.depth)[0].matrix)
    left = len(matrix) - 1 - model.width
    if left != spec.num_features:
        raise GaveUp(
            STAGE, "the readout is not fed the features: embeddings are not known"
        )
    wide = matrix.astype(np.float64)
    rows = np.concatenate([wide[:left], wide[-1:]])
    sums, present = column_sums(spec, rows), present_columns(spec, rows)
    present &= np.asarray(spec.std) > 0
    whole = span([sums[present].astype(matrix.dtype)])
    if not whole.identifiable:
        raise GaveUp(STAGE, unidentifiable(whole, "nodes"))
    num = whole.rank
    judge = _Judge(model, params, update, num)
    columns, units, total = sums[present], wide[left:-1], wide[-1]
    features, embeddings, labels = [], [], []
    rng = np.random.default_rng(0)
    for left_over in range(num, 0, -1):
        for _ in range(TRIES):
            corner = _corner(columns, total, left_over, rng)
            if corner is None:
                continue
            row, dual = corner
            full = np.zeros(spec.num_features, np.float32)
            full[present] = row
            embedding = units @ dual
            fit = judge(spec.normalise(full.astype(np.float64)), embedding, dual)
            if fit is None:
                continue
            label, slope = fit
            break
        else:
            raise GaveUp(
                STAGE,
                f"{num - left_over} of {num} nodes found: two nodes are alike, too "
                "many features are shared, or the gradient is not exact",
            )
        features.append(full)
        embeddings.append(embedding)
        labels.append(label)
        columns = columns - np.outer(row, slope)
        units = units - np.outer(embedding, slope)
        total = total - slope
    return Nodes(np.stack(features), np.stack(embeddings), np.array(labels))


class _Judge:
    """Tells a true node from a mixture of several, by its slope."""

    def __init__(self, model: GraphModel, params: Any, update: Any, num: int):
        self.model, self.params, self.update, self.num = model, params, update, num

    def __call__(
        self, features: np.ndarray, embedding: np.ndarray, dual: np.ndarray
    ) -> tuple[int, np.ndarray] | None:
        """Label and slope of the node, or None.

        A node's slope, over their number, times the vector that reads it out of the
        gradient is 1.
        """
        fed = np.asarray(self.model.readout_inputs(features, embedding))[None]
        entries, slopes = node_slopes(self.model, self.params, self.update, fed)
        slopes = slopes / self.num
        off = np.abs(slopes @ dual - 1)
        best = int(off.argmin())
        if off[best] >= FITS:
            return None
        return int(entries.labels[best]), slopes[best]


def _corner(
    columns: np.ndarray, total: np.ndarray, num: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """A vertex of zeros and ones, if the one met is.

    Args:
      columns: `[P, K]`, sums of slopes of the nodes that have a column.
      total: `[K]`, the sum over all nodes.
      num: how many nodes.
      rng: draws the direction to go in.

    Returns:
      `[P]` zeros and ones, and `[K]` the vector that reads them out of `columns`.
    """
    basis, values, right = np.linalg.svd(columns, full_matrices=False)
    basis, dual = basis[:, :num], right[:num].T / values[:num]
    # Columns of the same nodes have the same row.
    _, first = np.unique(np.round(basis / SLACK), axis=0, return_index=True)
    few = basis[np.sort(first)]
    # The node with the fewest features, in random units, that has a certain one.
    chosen = few[rng.integers(len(few))]
    whole = total @ dual
    answer = scipy.optimize.linprog(
        few.T @ rng.uniform(0.5, 1.5, size=len(few)),
        A_ub=np.concatenate([few, -few, np.stack([whole, -whole, -chosen])]),
        b_ub=np.r_[
            np.repeat([1 + SLACK, SLACK], len(few)), 1 + SLACK, SLACK - 1, SLACK - 1
        ],
        bounds=(None, None),
    )
    if answer.x is None:
        return None
    exact = basis @ answer.x
    row = np.round(exact)
    if np.abs(exact - row).max() > WHOLE:
        return None
    return row, dual @ (basis.T @ row)  # off the slack, by least squares
