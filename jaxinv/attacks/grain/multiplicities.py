"""How many nodes there are of each type.

The readout's gradient is a sum over nodes of one known matrix per type (slope times
input, both functions of the type alone), so the shares of the types solve a linear
system with non-negative unknowns. Types that no node has get share 0; node counts are
the smallest integers in these proportions that agree about their edges.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.optimize
import scipy.special

from jaxinv.attacks.grain.embedding import bucket
from jaxinv.attacks.grain.outcome import GaveUp
from jaxinv.attacks.grain.types import Types
from jaxinv.attacks.span import Span
from jaxinv.models.graph_networks.base import GraphModel, readout_slopes

STAGE = "multiplicities"
MOST_ENTRIES = 1500
"""Unknowns; molecules of a hundred atoms have some six hundred."""
INSIDE = 1e-6
"""Relative size of what rows have outside that is rounding."""
MIXTURES = 32
"""Of directions outside."""
CONFIDENT = 30.0
"""Standard errors that a share may be off."""


class Entry(NamedTuple):
    """What nodes there may be: types of the last level, with labels."""

    types: np.ndarray
    """`[E]`, index of a type of the last level."""
    labels: np.ndarray
    """`[E]`, of the nodes (0 in a graph task)."""


class System(NamedTuple):
    """`matrix @ shares = target`, of full row information, few rows."""

    entries: Entry
    """What the columns are."""
    matrix: np.ndarray
    """`[R, E]`."""
    target: np.ndarray
    """`[R]`."""
    noise: float
    """Rounding of the target, in its unit."""


def graph_label(update: Any) -> int:
    """The label of a graph task, from the output bias.

    Its gradient is (sigmoid(logits) - label) / C: negative for the true class alone.
    """
    return int(np.argmin(np.asarray(update["readout"][-1]["bias"])))


def system(
    model: GraphModel,
    params: Any,
    update: Any,
    inputs: np.ndarray,
    whole: Span,
    unsure: np.ndarray | None = None,
) -> System:
    """The linear system of the shares.

    Args:
      model: the network.
      params: its weights.
      update: the gradient.
      inputs: `[T, U + 1]`, what the readout is fed of each type, and 1.
      whole: the span of the readout's inputs.
      unsure: `[K, Q]` orthonormal, directions of slopes that are not looked at.

    Raises:
      GaveUp: there are too many types, or no direction is left.
    """
    classes = model.spec.num_classes if model.spec.task == "node" else 1
    if len(inputs) * classes > MOST_ENTRIES:
        raise GaveUp(
            STAGE,
            f"{len(inputs) * classes:,} types fit, more than {MOST_ENTRIES:,}: the "
            "gradient is inexact",
        )
    entries, slopes = node_slopes(model, params, update, inputs[:, :-1])
    slopes = slopes / whole.scale
    fed = inputs[entries.types]
    left, right = _extended(whole.basis, fed), _extended(whole.right, slopes)
    if unsure is not None and unsure.shape[1]:
        right = right - unsure @ (unsure.T @ right)
        basis, values, _ = np.linalg.svd(right, full_matrices=False)
        right = basis[:, values > INSIDE]
        if not right.shape[1]:
            raise GaveUp(STAGE, "any unit of the readout may have switched on its way")
    matrix = np.einsum("er,es->rse", fed @ left, slopes @ right)
    matrix = matrix.reshape(-1, len(slopes))
    target = (left.T @ whole.basis * whole.values) @ (whole.right.T @ right)
    # As many rows as columns hold all there is.
    q, r = np.linalg.qr(np.concatenate([matrix, target.reshape(-1, 1)], 1))
    del q
    return System(entries, r[:, :-1], r[:, -1], whole.noise)


def _extended(basis: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The basis with directions in which rows are outside it: there they must cancel.

    Of many such directions some mixtures do; what cancels in all, cancels in them, and
    the converse holds but by chance.
    """
    outside = rows - rows @ basis @ basis.T
    _, values, more = np.linalg.svd(outside, full_matrices=False)
    more = more[values > INSIDE * np.linalg.norm(rows)]
    if len(more) > MIXTURES:
        mix = np.random.default_rng(0).normal(size=(MIXTURES, len(more)))
        more = np.linalg.qr((mix @ more).T)[0].T
    return np.concatenate([basis, more.T], 1)


def node_slopes(
    model: GraphModel, params: Any, update: Any, fed: np.ndarray
) -> tuple[Entry, np.ndarray]:
    """How the readout's first layer feels the loss at nodes, times their number.

    Args:
      model: the network.
      params: its weights.
      update: the gradient, whose output bias stands for the graph's label.
      fed: `[T, U]`, the readout's inputs.

    Returns:
      Entries (in a node task one for every label) and `[E, K]`.
    """
    num, classes = len(fed), model.spec.num_classes
    size = bucket(num, 64)  # few shapes, so that no program is for one graph alone
    padded = np.pad(fed, ((0, size - num), (0, 0)))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
        if model.spec.task == "graph":
            bias = np.asarray(update["readout"][-1]["bias"], np.float64)
            ahead = np.tile(bias, (1, size, 1))
        else:
            logits = np.asarray(_logits(model)(wide, padded))
            chances = scipy.special.expit(logits)
            ahead = (chances - np.eye(classes)[:, None]) / classes
        found = [np.asarray(_slopes(model)(wide, padded, a))[:num] for a in ahead]
    labels, types = np.divmod(np.arange(num * len(found)), num)
    return Entry(types, labels), np.concatenate(found)


@functools.lru_cache(maxsize=16)
def _logits(model: GraphModel):
    return jax.jit(model.readout)


@functools.lru_cache(maxsize=16)
def _slopes(model: GraphModel):
    def slopes(params: Any, fed: jax.Array, ahead: jax.Array) -> jax.Array:
        return readout_slopes(params, fed, ahead, model.readout_activation)

    return jax.jit(slopes)


class Counts(NamedTuple):
    """One possible set of nodes."""

    types: np.ndarray
    """`[n]`, type of the last level of each node, sorted."""
    labels: np.ndarray
    """`[n]`."""


def shares(found: System) -> tuple[np.ndarray, bool]:
    """The non-negative solution, and whether it is the only one.

    Raises:
      GaveUp: there is none: some true type is missing, or the gradient is noisy.
    """
    solution, rest = scipy.optimize.nnls(
        found.matrix, found.target, maxiter=30 * found.matrix.shape[1] + 100
    )
    size = np.linalg.norm(found.target)
    rows = len(found.target)
    if rest > CONFIDENT * found.noise * np.sqrt(rows) + 1e-10 * size:
        raise GaveUp(
            STAGE,
            "no number of the types found explains the gradient (off by "
            f"{rest / size:.1e} of it): a type is missing, or the gradient is inexact",
        )
    values = np.linalg.svd(found.matrix, compute_uv=False)
    rank = int((values > CONFIDENT * found.noise).sum())
    return solution, rank == found.matrix.shape[1]


def handshakes(types: Types, entries: Entry) -> np.ndarray:
    """`[P, E]`: times the counts 0, where edges have two ends.

    One row for each pair of types one level below: those of the one that expect the
    other as a neighbour minus those of the other that expect the one.
    """
    rows: dict[tuple[int, int], np.ndarray] = {}
    for column, t in enumerate(entries.types):
        own = int(types.own[t])
        others = types.others[t]
        for other in others[others >= 0].tolist():
            if other == own:
                continue
            pair, sign = ((own, other), 1) if own < other else ((other, own), -1)
            row = rows.setdefault(pair, np.zeros(len(entries.types)))
            row[column] += sign
    empty = np.zeros((0, len(entries.types)))
    return np.stack(list(rows.values())) if rows else empty


def loops(types: Types, entries: Entry) -> np.ndarray:
    """`[Q, E]`: times the counts even, where both ends are of one type."""
    found: dict[int, np.ndarray] = {}
    for column, t in enumerate(entries.types):
        own = int(types.own[t])
        ends = int((types.others[t] == own).sum())
        if ends:
            found.setdefault(own, np.zeros(len(entries.types)))[column] = ends
    empty = np.zeros((0, len(entries.types)))
    return np.stack(list(found.values())) if found else empty
