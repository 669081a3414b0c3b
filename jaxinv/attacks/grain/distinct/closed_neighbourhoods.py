"""All graphs with the same closed neighbourhoods: what two levels cannot tell apart.

A layer sees the edges as a matrix C, with a one at a node itself and scaled by degrees.
Where C' = PC, P a permutation, is such a matrix as well, C' act(C' X) = C P^T act(P C
X) = C act(C X): the first level of some nodes is exchanged and exchanged back. So
graphs with one multiset of closed neighbourhoods (a node and its neighbours) have one
gradient; a wheel with four spokes is three such graphs. Conversely act(C X) has a kink
where a row of C times X is 0, so with independent features almost all weights tell
everything else. Whose closed neighbourhood is which is the star system problem
(Lalonde, 1981), solved here by backtracking. (Its use is ours.)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxinv.attacks.grain.outcome import GaveUp

MOST_STEPS = 200_000
"""Of backtracking."""


def same_closed_neighbourhoods(adjacency: np.ndarray) -> Iterator[np.ndarray]:
    """Adjacencies on the same nodes with the same closed neighbourhoods.

    Args:
      adjacency: `[n, n]`, comes out as well.

    Yields:
      `[n, n]`, each once.

    Raises:
      GaveUp: after `MOST_STEPS`; there may be more.
    """
    num = len(adjacency)
    closed = adjacency.astype(bool) | np.eye(num, dtype=bool)
    rows, left = np.unique(closed, axis=0, return_counts=True)
    sizes, degrees = rows.sum(1), closed.sum(1)
    # How many sets hold a node is its degree, in every such graph.
    open_ = rows.T & (sizes == degrees[:, None])
    chosen = np.full(num, -1)
    steps = 0

    def search(options: np.ndarray, left: np.ndarray) -> Iterator[np.ndarray]:
        """Args: `[n, R]` sets that a node may take, `[R]` how often one is left."""
        nonlocal steps
        steps += 1
        if steps > MOST_STEPS:
            raise GaveUp("class", f"more than {MOST_STEPS:,} steps of backtracking")
        waiting = np.flatnonzero(chosen < 0)
        if not len(waiting):
            found = rows[chosen].astype(adjacency.dtype)
            yield found - np.eye(num, dtype=adjacency.dtype)
            return
        numbers = options[waiting].sum(1)
        if not numbers.all():
            return
        node = waiting[numbers.argmin()]
        for row in np.flatnonzero(options[node]):
            chosen[node] = row
            # Who is in this set must take one that holds the node, nobody else may.
            rest = options & (rows[:, node][None] == rows[row][:, None])
            fewer = left.copy()
            fewer[row] -= 1
            if not fewer[row]:
                rest[:, row] = False
            yield from search(rest, fewer)
            chosen[node] = -1

    yield from search(open_, left)


def owners(sets: np.ndarray, degrees: np.ndarray | None) -> np.ndarray:
    """`[R]`, of which node each closed neighbourhood is, -1 where two or more fit.

    A node is in its own set, which has one node more than its degree; and with whose
    set is known, who is in it must have the node in its own, nobody else may.

    Args:
      sets: `[R, n]` bool, some of the graph's closed neighbourhoods, each once.
      degrees: `[n]` where known.
    """
    fits = sets.copy()
    if degrees is not None:
        fits &= sets.sum(1)[:, None] == degrees + 1
    found = np.full(len(sets), -1)
    while True:
        single = np.flatnonzero((fits.sum(1) == 1) & (found < 0))
        if not len(single):
            return found
        index = single[0]
        node = fits[index].argmax()
        found[index] = node
        fits[np.arange(len(sets)) != index, node] = False
        fits &= sets[:, node][:, None] == sets[index]
