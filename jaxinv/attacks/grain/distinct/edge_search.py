"""Edges between known nodes: relaxed searches, each with what the last made certain.

A search that ends elsewhere than in the truth still gets most nodes' neighbours right,
and which ones is told exactly, node by node, by the span of the first level. They stay,
and the next search has fewer edges to find. (Ours.)
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from jaxinv.attacks.grain.distinct.closed_neighbourhoods import owners
from jaxinv.attacks.grain.distinct.relaxed_adjacency import expected, shaken

MOST_SEARCHES = 40
SECONDS = 60.0
PATIENCE = 12
"""Searches without news after which what was certain is forgotten: a set may be wrong.
"""
SHARES = (0.1, 0.5, 0.25)
"""Of all edges that there may be, those expected in turn where degrees are unknown."""


def find_edges(
    num: int,
    degrees: np.ndarray | None,
    search: Callable[[np.ndarray, np.ndarray], np.ndarray],
    certain: Callable[[np.ndarray], np.ndarray],
    fits: Callable[[np.ndarray], bool],
) -> np.ndarray | None:
    """`[n, n]` zeros and ones that fit, or None.

    Args:
      num: n, how many nodes.
      degrees: `[n]` where known.
      search: `(start [n, n], free [n, n]) -> [n, n]` between 0 and 1.
      certain: `(adjacency [n, n]) -> [n] bool`, nodes whose neighbours are right, if
        not those of another node that has the same.
      fits: `(adjacency [n, n]) -> bool`.
    """
    rng, until = np.random.default_rng(0), time.monotonic() + SECONDS
    sets = np.zeros((0, num), bool)
    eye = np.eye(num, dtype=bool)
    found, sure, idle = np.zeros((num, num)), np.zeros(num, bool), 0
    for index in range(MOST_SEARCHES):
        fixed, free = np.zeros((num, num)), np.ones((num, num), bool)
        for row, node in zip(sets, owners(sets, degrees), strict=True):
            if node >= 0:
                fixed[node] = fixed[:, node] = row & ~eye[node]
                free[node] = free[:, node] = False
        if degrees is None:
            start = SHARES[index % len(SHARES)] * (free & ~eye)
        else:
            start = expected(degrees, fixed, free)
        if index:
            start = shaken(start, rng)
            if rng.random() < 0.5:
                kept = free & (sure[:, None] | sure[None])
                start = np.where(kept, found, start)
        found = np.round(search(np.where(free, start, fixed), free))
        if fits(found):
            return found
        sure = certain(found)
        news = np.concatenate([sets, (found > 0)[sure] | eye[sure]])
        news = np.unique(news, axis=0)
        idle = 0 if len(news) > len(sets) else idle + 1
        sets = news
        if idle >= PATIENCE:
            sets, idle = sets[:0], 0
        if time.monotonic() > until:
            break
    return None
