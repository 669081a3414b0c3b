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

MOST_CANDIDATES = 1_000_000
"""Looked at."""
MOST_DIRECTIONS = 12
"""Tried, those that the most candidates share first."""
MOST_MEMBERS = 16
"""Candidates that a direction is taken from."""
FEW = 4
"""Of the screen's directions, which are random."""
SAME = 3e-4
"""Distance of unit vectors that are said to be one."""


def lost_directions(
    embedder: Embedder, whole: Span, chunks: Iterator[Chunk]
) -> Iterator[Span]:
    """Spans with one more direction, the most popular first.

    Args:
      embedder: of the level.
      whole: the span that lacks a direction.
      chunks: candidates of the level, tested or not; the first ones are looked at.
    """
    owns, neighbours, rests = [], [], []
    left = MOST_CANDIDATES
    for own, others, rest in embedder.rest(chunks, whole):
        left -= len(own)
        if left < 0:
            break
        owns += own.tolist()
        neighbours += list(others)
        rests.append(rest)
    if len(owns) < 2:
        return
    vectors = np.concatenate(rests).astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    # Neighbourhoods with one sum have one embedding, and count once.
    _, first = np.unique(_near(vectors / np.median(lengths)), return_index=True)
    vectors = vectors[first] / lengths[first, None]
    # Up to sign, by the entry that is largest on the whole.
    axis = np.abs(vectors).sum(0).argmax()
    vectors *= np.where(vectors[:, axis] < 0, -1, 1)[:, None]
    cluster = _near(vectors)
    sizes = np.bincount(cluster)
    for index in np.argsort(-sizes, kind="stable")[:MOST_DIRECTIONS]:
        if sizes[index] < 2:
            return
        chosen = first[np.flatnonzero(cluster == index)[:MOST_MEMBERS]]
        members = [(owns[k], neighbours[k]) for k in chosen]
        direction = _outside(embedder, whole, members)
        yield whole._replace(
            basis=np.concatenate([whole.basis, direction[:, None]], 1),
            # Nothing is known of the other side, which level 1 does not use, or of the
            # strength: a middling one sets the bound of the test.
            right=np.concatenate([whole.right, np.zeros((len(whole.right), 1))], 1),
            values=np.append(whole.values, np.median(whole.values)),
        )


def _near(vectors: np.ndarray) -> np.ndarray:
    """`[V]`, a number for each group of vectors that are `SAME`."""
    # A tree of few coordinates is fast, and finds little that is far in the others.
    few = vectors[:, :FEW]
    pairs = KDTree(few).query_pairs(SAME, output_type="ndarray")
    apart = np.linalg.norm(vectors[pairs[:, 0]] - vectors[pairs[:, 1]], axis=1)
    pairs = pairs[apart < SAME]
    shape = (len(vectors),) * 2
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=shape)
    return connected_components(links, directed=False)[1]


def _outside(
    embedder: Embedder, whole: Span, candidates: list[tuple[int, np.ndarray]]
) -> np.ndarray:
    """`[D]`, the unit vector that these candidates have outside the span."""
    own = np.array([one for one, _ in candidates])
    width = max(len(others) for _, others in candidates)
    others = [
        np.pad(others, (0, width - len(others)), constant_values=-1)
        for _, others in candidates
    ]
    rows = embedder.inputs(own, embedder.rows_of(own, np.stack(others)))
    for _ in range(2):  # once more, for what rounding left inside
        rows = rows - rows @ whole.basis @ whole.basis.T
    return np.linalg.svd(rows, full_matrices=False)[2][0]
