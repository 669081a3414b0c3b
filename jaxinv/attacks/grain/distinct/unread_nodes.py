"""Nodes that are all different, where the readout is not fed their features.

No slope tells then which rows of zeros and ones in the span of the first layer's
gradient are nodes and which are mixtures. If there are as many as the rank, all are
nodes. (Ours.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxinv.attacks.grain.distinct.corners import every_corner
from jaxinv.attacks.grain.distinct.read_nodes import STAGE
from jaxinv.attacks.grain.node_types import (
    column_sums,
    present_columns,
    unidentifiable,
)
from jaxinv.attacks.grain.outcome import GaveUp
from jaxinv.attacks.grain.tower import level_span
from jaxinv.attacks.span import span
from jaxinv.graph import GraphSpec
from jaxinv.models.graph_networks.base import GraphModel

SECONDS = 30.0
"""Of the search for rows of features."""
AGREE = 1e-4
"""Relative distance of rows that are said to be one."""
FEW = 3
"""Columns that must agree at least."""
ROOM = 8
"""Rows more than nodes after which the search ends."""


def unread_nodes(model: GraphModel, update: Any) -> np.ndarray:
    """`[n, F]` zeros and ones, features of all nodes.

    Args:
      model: the network.
      update: the gradient.

    Raises:
      GaveUp: the rank says nothing, or other rows than the nodes' are in the span.
    """
    spec = model.spec
    if spec.task != "graph":
        raise GaveUp(
            STAGE, "the readout is not fed the features: labels of nodes are not known"
        )
    factors = model.factors(update, 0)
    matrices = []
    for factor in [one for one in factors if one.affine] or factors:
        wide = np.asarray(factor.matrix, np.float64)
        if not factor.affine:
            wide = np.concatenate([wide, _total(spec, wide)[None]])
        matrices.append(wide / np.linalg.norm(wide))
    whole = np.concatenate(matrices, 1)
    present = present_columns(spec, whole) & (np.asarray(spec.std) > 0)
    columns = np.concatenate([column_sums(spec, whole)[present], whole[-1:]])
    seen = span([columns.astype(np.float32)])
    if not seen.identifiable:
        raise GaveUp(STAGE, unidentifiable(seen, "nodes"))
    for level in range(1, model.depth + 1):
        rank = level_span(model, update, level).rank
        if rank > seen.rank:
            raise GaveUp(
                STAGE,
                f"level {level} has rank {rank}, the features only {seen.rank}: some "
                "nodes are not in the first layer's gradient, and the readout is not "
                "fed their features",
            )
    rows, whole = every_corner(columns, seen.rank, seen.rank + ROOM, SECONDS)
    if len(rows) > seen.rank:
        raise GaveUp(
            STAGE,
            f"{len(rows)} rows of features or more fit {seen.rank} nodes, and the "
            "readout, which would tell them apart, is not fed the features",
        )
    if not whole or len(rows) < seen.rank:
        raise GaveUp(
            STAGE, f"{len(rows)} of {seen.rank} nodes found within {SECONDS:.0f} s"
        )
    always = np.where(np.asarray(spec.std) > 0, 0.0, np.round(spec.mean))
    features = np.tile(always, (len(rows), 1))
    features[:, present] = rows[:, :-1]
    return features.astype(np.float32)


def _total(spec: GraphSpec, matrix: np.ndarray) -> np.ndarray:
    """`[K]`, the sum of all nodes' slopes where no bias has it.

    The row of a column that no node has is that sum times its mean over its deviation,
    with a minus. So it is what the most columns agree on.

    Raises:
      GaveUp: hardly any agree.
    """
    std, mean = np.asarray(spec.std), np.asarray(spec.mean)
    some = (std > 0) & (mean > 0)
    each = -matrix[some] * (std[some] / mean[some])[:, None]
    places = each @ np.random.default_rng(0).normal(size=each.shape[1])
    near = AGREE * np.median(np.linalg.norm(each, axis=1))
    close = np.abs(places[:, None] - places) < near
    best = close.sum(1).argmax() if len(close) else 0
    if len(close) < FEW or close[best].sum() < FEW:
        raise GaveUp(STAGE, "every column is some node's: what no node has is not seen")
    return np.median(each[close[best]], axis=0)
