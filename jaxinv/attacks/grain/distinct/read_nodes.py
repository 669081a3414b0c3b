"""Graphs whose nodes are all different: features by factoring the first gradient.

With words instead of one choice per group, rows of features cannot be enumerated. But a
word's row of the gradient (its mean taken out by the bias) is the sum of the slopes of
the nodes that have the word: R = X^T D, X of zeros and ones. With n independent slopes
the column space of R holds every node's column of X, and these are vertices of the
polytope of what lies between 0 and 1 in it. Programs, linear and then integer ones,
find them. (Ours; GRAIN filters features one after the other.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxinv.attacks.grain.distinct.corners import WHOLE, corners
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
FITS = 0.02
"""How far from 1 a node's slope times its own dual may be; of mixtures it is some 0.1.
"""
KINK = 1e-4
"""Relative distance of a unit's input from 0 below which its side is not known."""


class Nodes(NamedTuple):
    """All nodes of a graph, in an arbitrary order."""

    features: np.ndarray
    """`[n, F]` zeros and ones."""
    embeddings: np.ndarray
    """`[n, D]` float64, of the last level."""
    labels: np.ndarray
    """`[n]`, of a node task."""
    noise: float
    """The largest singular value of the gradient's rounding, of all values' norm."""


def distinct_nodes(model: GraphModel, params: Any, update: Any) -> Nodes:
    """Every node, if no node's features are a mixture of the others'.

    Other mixtures of nodes may be zeros and ones as well. Every vertex comes with the
    readout's input that it would have, hence with a slope; only of a true node is that
    a slope of which the gradient is made. A node found is taken out of the gradient,
    which leaves a smaller problem.

    Args:
      model: the network, whose readout is fed the features too.
      params: its weights.
      update: the gradient.

    Raises:
      GaveUp: the rank says nothing, or a true node was not found.
    """
    problem = _Problem(model, params, update)
    rng = np.random.default_rng(0)
    rows, labels = [], []
    columns = problem.columns
    while len(rows) < problem.num:
        for row in corners(columns, problem.num - len(rows), rng):
            fit = problem.judge(row)
            if fit is not None:
                break
        else:
            raise GaveUp(
                STAGE,
                f"{len(rows)} of {problem.num} nodes found: too many features are "
                "shared, or the gradient is not exact",
            )
        label, slope = fit
        rows.append(row)
        labels.append(label)
        # Exactly one less in rank, whatever rounding the slope has.
        columns = columns - np.outer(row, slope)
    return problem.nodes(np.stack(rows), np.array(labels))


def reads_features(model: GraphModel) -> bool:
    """Whether the readout is fed the features beside the embedding."""
    width = model.width
    fed = jax.eval_shape(
        model.readout_inputs,
        np.zeros((1, model.spec.num_features)),
        np.zeros((1, width)),
    )
    return fed.shape[-1] > width


class _Problem:
    """The readout's gradient, and what a row of features says by it."""

    def __init__(self, model: GraphModel, params: Any, update: Any):
        self.model, self.params, self.update = model, params, update
        spec = model.spec
        matrix = np.asarray(model.factors(update, model.depth)[0].matrix)
        left = spec.num_features
        wide = matrix.astype(np.float64)
        parts = np.concatenate([wide[:left], wide[-1:]])
        self.present = present_columns(spec, parts) & (np.asarray(spec.std) > 0)
        # Every node has the constant 1 of the bias.
        self.columns = np.concatenate(
            [column_sums(spec, parts)[self.present], wide[-1:]]
        )
        self.units = wide[left:-1]
        self.whole = span([matrix])
        self.num = self.whole.rank
        if not self.whole.identifiable:
            raise GaveUp(STAGE, unidentifiable(self.whole, "nodes"))
        seen = span([self.columns.astype(matrix.dtype)])
        if not seen.identifiable:
            raise GaveUp(STAGE, unidentifiable(seen, "nodes"))
        if seen.rank < self.num:
            raise GaveUp(
                STAGE,
                f"features of the {self.num} nodes have rank {seen.rank}: some node's "
                "are a mixture of others', and its embedding is not known",
            )
        self.basis = seen.basis
        self.dual = seen.right / (seen.values * seen.scale)

    def judge(self, row: np.ndarray) -> tuple[int, np.ndarray] | None:
        """Label and slope of a node, or None for a mixture of several.

        A node's slope, over their number, is a row of what the gradient is made of:
        inside the span of the other side, and 1 times the dual that reads it out.

        Args:
          row: `[P + 1]` zeros and ones.
        """
        inside = self.basis.T @ row
        if np.abs(self.basis @ inside - row).max() > WHOLE:
            return None
        dual = self.dual @ inside
        features = self.model.spec.normalise(self._full(row[None])[0])
        fed = np.asarray(self.model.readout_inputs(features, self.units @ dual))[None]
        for params in self._sides(fed[0]):
            entries, slopes = node_slopes(self.model, params, self.update, fed)
            slopes = slopes / self.num
            off = np.abs(slopes @ dual - 1)
            far = self._outside(fed[0], slopes)
            far[off > FITS] = np.inf
            best = int(far.argmin())
            if far[best] <= 1:
                break
        else:
            return None
        right = self.whole.right
        slope = right @ (right.T @ slopes[best])
        return int(entries.labels[best]), slope / (slope @ dual)

    def _sides(self, fed: np.ndarray) -> Iterator[Any]:
        """The weights, and such as put units at a kink of deeper layers beyond it."""
        yield self.params
        if self.model.readout_activation != "relu":
            return
        first, *deeper, _ = [
            {name: np.asarray(leaf, np.float64) for name, leaf in layer.items()}
            for layer in self.params["readout"]
        ]
        row = np.maximum(fed @ first["kernel"] + first["bias"], 0)
        for index, layer in enumerate(deeper, 1):
            inputs = row @ layer["kernel"] + layer["bias"]
            scale = np.abs(inputs).max()
            for unit in np.flatnonzero(np.abs(inputs) < KINK * scale):
                bias = layer["bias"].copy()
                bias[unit] -= inputs[unit] + np.sign(inputs[unit]) * KINK * scale
                changed = list(self.params["readout"])
                changed[index] = {**changed[index], "bias": bias}
                yield {**self.params, "readout": changed}
            row = np.maximum(inputs, 0)

    def _outside(self, fed: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """As `Span.right_excess`, but for units that may be on either side of 0."""
        first = self.params["readout"][0]
        kernel, bias = (np.asarray(first[k], np.float64) for k in ("kernel", "bias"))
        inputs = fed @ kernel + bias
        sure = np.abs(inputs) > KINK * np.abs(inputs).max()
        part, values, turn = np.linalg.svd(
            self.whole.right[sure] * self.whole.values, full_matrices=False
        )
        del turn
        return self.whole._replace(right=part, values=values).right_excess(
            slopes[:, sure]
        )

    def _full(self, rows: np.ndarray) -> np.ndarray:
        """`[n, F]` from `[n, P + 1]`."""
        spec = self.model.spec
        # A column that never varies is that of the public data.
        always = np.where(np.asarray(spec.std) > 0, 0.0, np.round(spec.mean))
        full = np.tile(always, (len(rows), 1))
        full[:, self.present] = rows[:, :-1]
        return full

    def nodes(self, rows: np.ndarray, labels: np.ndarray) -> Nodes:
        """All of them: with all rows of features the gradient states the slopes."""
        slopes = np.linalg.lstsq(rows.T, self.columns)[0]
        embeddings = np.linalg.lstsq(slopes.T, self.units.T)[0]
        features = self._full(rows).astype(np.float32)
        return Nodes(features, embeddings, labels, self.whole.noise)
