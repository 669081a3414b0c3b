"""Which rows of features the client's nodes have: level 0 of the types.

Possible rows are products of groups of which a node has exactly one column. A column
that no node has shows in the gradient of any layer with a bias (its rows are then those
of the bias, scaled), so the product is over the columns present, and one product of
matrices tests them all; where it is too large it grows group by group, tested against
the columns so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from jaxinv.attacks.grain.outcome import GaveUp
from jaxinv.attacks.grain.types import Types
from jaxinv.attacks.span import Span, span
from jaxinv.graph import GraphSpec
from jaxinv.models.graph_networks.base import Factor

STAGE = "node types"
MOST_ROWS = 200_000
"""Of candidates in one product of matrices."""
ABSENT = 1e-4
"""Relative size of a column's gradient below which no node has it."""


def node_types(
    spec: GraphSpec,
    factors: Sequence[Factor],
    admissible: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[Types, Span]:
    """All rows of features in the span of the first layer's gradient.

    Args:
      spec: of the graphs, all groups exclusive.
      factors: of level 0.
      admissible: `(features [N, F]) -> [N] bool`, what is known of single nodes
        beside the groups; None admits all.

    Returns:
      The types, with degrees where the features state them (else 0), and the span.

    Raises:
      GaveUp: the span says nothing, or too many rows are in it.
    """
    matrices = [np.asarray(f.matrix, np.float64) for f in factors]
    whole = span([f.matrix[: spec.num_features] for f in factors])
    if not whole.identifiable:
        raise GaveUp(STAGE, unidentifiable(whole, "nodes with different features"))
    tests = [(whole, False)]
    for factor in factors:
        if factor.affine:
            affine = span([factor.matrix])
            # Only where it lost no rank is membership in it necessary.
            if affine.identifiable and affine.rank >= whole.rank:
                tests.append((affine, True))
    # A column that all public nodes have is 0 once normalised, and one may have it.
    columns = (np.asarray(spec.std) > 0) | (np.asarray(spec.mean) == 1)
    for factor, matrix in zip(factors, matrices, strict=True):
        if factor.affine:
            columns &= present_columns(spec, matrix)
    features = np.zeros((1, 0), np.float32)
    order = spec.groups
    for i, group in enumerate(order):
        place = spec.columns(group.name)
        choices = np.eye(group.size, dtype=np.float32)[columns[place]]
        features = np.concatenate(
            [
                np.repeat(features, len(choices), 0),
                np.tile(choices, (len(features), 1)),
            ],
            1,
        )
        # Before the next group makes too many of them, and at the end.
        ahead = order[i + 1 :][:1]
        coming = sum(int(columns[spec.columns(g.name)].sum()) for g in ahead)
        if not ahead or len(features) * coming > MOST_ROWS:
            features = features[_inside(spec, features, matrices, factors)]
        if len(features) > 10 * MOST_ROWS:
            raise GaveUp(
                STAGE, f"{len(features):,} rows of features fit; too many to go on"
            )
    if admissible is not None:
        features = features[admissible(features)]
    if not len(features):
        raise GaveUp(STAGE, "no row of features is in the span of the gradient")
    return rows_as_types(spec, features), whole


def rows_as_types(spec: GraphSpec, features: np.ndarray) -> Types:
    """Level 0 from `[N, F]` features."""
    size = len(features)
    degrees = spec.degrees(features) if spec.degree else np.zeros(size, int)
    others = np.zeros((size, 0), int)
    rows = spec.normalise(features.astype(np.float64))
    return Types(np.arange(size), others, degrees, rows)


def _inside(
    spec: GraphSpec,
    features: np.ndarray,
    matrices: Sequence[np.ndarray],
    factors: Sequence[Factor],
) -> np.ndarray:
    """`[N]`, whether the first columns of rows fit the first rows of the gradient."""
    width = features.shape[1]
    mean, std = np.asarray(spec.mean[:width]), np.asarray(spec.std[:width])
    rows = (features - mean) * np.where(std > 0, 1 / np.where(std > 0, std, 1), 0)
    fits = np.ones(len(rows), bool)
    dtype = np.asarray(factors[0].matrix).dtype
    whole = span([m[:width].astype(dtype) for m in matrices])
    if whole.identifiable:
        fits = whole.excess(rows) <= 1
    for matrix, factor in zip(matrices, factors, strict=True):
        if not factor.affine:
            continue
        part = np.concatenate([matrix[:width], matrix[-1:]]).astype(dtype)
        affine = span([part])
        if affine.identifiable and affine.rank >= whole.rank:
            ones = np.ones((len(rows), 1))
            fits &= affine.excess(np.concatenate([rows, ones], 1)) <= 1
    return fits


def present_columns(spec: GraphSpec, matrix: np.ndarray) -> np.ndarray:
    """`[F]`, which columns at least one node has, as far as a bias shows it.

    With normalised features a column's row of the gradient is its nodes' sum minus its
    mean times everyone's, over its deviation; the bias has everyone's sum.

    Args:
      spec: of the graphs.
      matrix: `[F + 1, K]`, an affine factor of level 0.
    """
    std, mean = np.asarray(spec.std), np.asarray(spec.mean)
    size = np.linalg.norm(column_sums(spec, matrix), axis=1)
    # Rounding is relative to what was subtracted.
    scale = np.linalg.norm(matrix[:-1], axis=1) * std
    scale = scale + mean * np.linalg.norm(matrix[-1])
    return ((std > 0) & (size > ABSENT * scale)) | (mean == 1)


def column_sums(spec: GraphSpec, matrix: np.ndarray) -> np.ndarray:
    """`[F, K]`: for each column the sum over the nodes that have it of their slopes.

    Args:
      spec: of the graphs.
      matrix: `[F + 1, K]`, an affine factor of level 0.
    """
    std, mean = np.asarray(spec.std), np.asarray(spec.mean)
    return matrix[:-1] * std[:, None] + mean[:, None] * matrix[-1]


def unidentifiable(found: Span, what: str) -> str:
    """Why a span says nothing, in words."""
    if not found.rank:
        return "the gradient is zero"
    return (
        f"no gap in the spectrum of {found.limit} singular values: about as many "
        f"{what} or more, or noise on the gradient"
    )
