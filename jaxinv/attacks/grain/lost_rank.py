"""A direction that the gradient has lost, found again from where candidates meet.

The gradient of layer l + 1 is (A' H)^T times something. Where the spread A' of the
types is singular, the span lacks one direction w of the true embeddings: true
candidates are outside the span, but all on one line, while what others have outside
points anywhere. So directions that two or more candidates share are tried as the lost
one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from jaxinv.attacks.grain.embedding import Embedder
from jaxinv.attacks.grain.proposals import Chunk
from jaxinv.attacks.span import Span

MOST_CANDIDATES = 60_000
"""Looked at, in float64 and at all coordinates."""
MOST_DIRECTIONS = 12
"""Tried, those that the most candidates share first."""
SAME = 1e-5
"""Distance of unit vectors that are said to be one."""


def lost_directions(
    embedder: Embedder, whole: Span, chunks: Iterator[Chunk]
) -> Iterator[Span]:
    """Spans with one more direction, the most popular first.

    Args:
      embedder: of the level.
      whole: the span that lacks a direction.
      chunks: all candidates of the level, tested or not.
    """
    rest, size = [], []
    for own, others in chunks:
        rows = embedder.inputs(own, embedder.rows_of(own, others))
        outside = whole.excess(rows) > 1
        rows = rows[outside]
        rest.append(rows - rows @ whole.basis @ whole.basis.T)
        size.append(np.linalg.norm(rows, axis=1))
    vectors, sizes = np.concatenate(rest), np.concatenate(size)
    lengths = np.linalg.norm(vectors, axis=1)
    kept = lengths > 1e-4 * sizes
    vectors = vectors[kept] / lengths[kept, None]
    if len(vectors) < 2:
        return
    # Up to sign, by the entry that is largest on the whole.
    axis = np.abs(vectors).sum(0).argmax()
    vectors *= np.where(vectors[:, axis] < 0, -1, 1)[:, None]
    rng = np.random.default_rng(0)
    few = vectors @ np.linalg.qr(rng.normal(size=(vectors.shape[1], 12)))[0]
    pairs = KDTree(few).query_pairs(SAME, output_type="ndarray")
    shape = (len(vectors),) * 2
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=shape)
    _, cluster = connected_components(links, directed=False)
    sizes = np.bincount(cluster)
    for index in np.argsort(-sizes, kind="stable")[:MOST_DIRECTIONS]:
        if sizes[index] < 2:
            return
        direction = vectors[cluster == index].mean(0)
        direction -= whole.basis @ (whole.basis.T @ direction)
        direction /= np.linalg.norm(direction)
        yield whole._replace(
            basis=np.concatenate([whole.basis, direction[:, None]], 1),
            # Nothing is known of the other side, which level 1 does not use, or of the
            # strength: a middling one sets the bound of the test.
            right=np.concatenate([whole.right, np.zeros((len(whole.right), 1))], 1),
            values=np.append(whole.values, np.median(whole.values)),
        )
