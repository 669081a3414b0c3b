"""Which bonds are double or triple: an exact search over what each atom has left."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

Options = Sequence[tuple[int, ...]]
"""For each atom, the sums that the extra orders of its bonds may have."""

MAX_EXTRA = 2
"""A triple bond has two more than a single one."""


def extra_orders(
    options: Options,
    edges: Sequence[tuple[int, int]],
    wary: Sequence[bool],
    *,
    max_each: int,
    max_steps: int,
) -> list[list[dict[int, int]]]:
    """Orders above one, for each piece of the molecule that has any.

    Bonds between atoms with nothing left stay single, so the others fall into pieces
    that do not depend on each other.

    Args:
      options: of every atom; empty for one whose bonds and hydrogens do not fit it.
      edges: the bonds.
      wary: for each bond, whether single is tried before double.
      max_each: how many solutions to list of each piece.
      max_steps: how many choices to try in each.

    Returns:
      For each piece its solutions, each the extra order by index of the bond. A piece
      without solution has an empty list.
    """
    if not all(options):
        return [[]]
    most = [max(choices) for choices in options]
    open_edges = [k for k, (i, j) in enumerate(edges) if most[i] and most[j]]
    rows = [edges[k][0] for k in open_edges]
    columns = [edges[k][1] for k in open_edges]
    shape = (len(options), len(options))
    pairs = csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
    _, piece_of = connected_components(pairs, directed=False)
    pieces: dict[int, list[int]] = {}
    for atom, piece in enumerate(piece_of.tolist()):
        # An atom that needs nothing and is joined to nothing is settled.
        if most[atom]:
            pieces.setdefault(piece, []).append(atom)
    found = []
    for atoms in pieces.values():
        inside = set(atoms)
        own = [k for k in open_edges if edges[k][0] in inside]
        search = _Search(options, edges, wary, atoms, own, max_steps)
        found.append(list(itertools.islice(search.solutions(), max_each)))
    return found


class _Search:
    """Depth first, with bounds on every bond made consistent after each choice."""

    def __init__(
        self,
        options: Options,
        edges: Sequence[tuple[int, int]],
        wary: Sequence[bool],
        atoms: list[int],
        own: list[int],
        steps: int,
    ) -> None:
        self.options, self.edges, self.wary, self.steps = options, edges, wary, steps
        self.around: dict[int, list[int]] = {atom: [] for atom in atoms}
        for k in own:
            for atom in edges[k]:
                self.around[atom].append(k)
        self.low = dict.fromkeys(own, 0)
        self.high = {k: min(MAX_EXTRA, *map(self.most, edges[k])) for k in own}

    def most(self, atom: int) -> int:
        return max(self.options[atom])

    def solutions(self) -> Iterator[dict[int, int]]:
        if self._settle(list(self.around)):
            yield from self._branch()

    def _branch(self) -> Iterator[dict[int, int]]:
        edge = self._next()
        if edge is None:
            yield dict(self.low)
            return
        low, high = self.low[edge], self.high[edge]
        values = list(range(low, high + 1))
        if not self.wary[edge]:
            # Double, then single, then triple.
            values.sort(key=lambda extra: (extra != 1, extra))
        for value in values:
            self.steps -= 1
            if self.steps < 0:
                return
            before = dict(self.low), dict(self.high)
            self.low[edge] = self.high[edge] = value
            if self._settle(list(self.edges[edge])):
                yield from self._branch()
            self.low, self.high = before

    def _next(self) -> int | None:
        """An open bond: a wary one first, so that sulphur stays as it mostly is."""
        unsettled = [k for k in self.low if self.low[k] < self.high[k]]
        return max(unsettled, key=lambda k: self.wary[k], default=None)

    def _settle(self, atoms: list[int]) -> bool:
        """Narrows the bounds around atoms until nothing changes; False: no solution."""
        while atoms:
            atom = atoms.pop()
            bonds = self.around[atom]
            low = sum(self.low[k] for k in bonds)
            high = sum(self.high[k] for k in bonds)
            sums = [s for s in self.options[atom] if low <= s <= high]
            if not sums:
                return False
            for k in bonds:
                at_least = max(self.low[k], min(sums) - (high - self.high[k]))
                at_most = min(self.high[k], max(sums) - (low - self.low[k]))
                if at_least > at_most:
                    return False
                if (at_least, at_most) != (self.low[k], self.high[k]):
                    low += at_least - self.low[k]
                    high += at_most - self.high[k]
                    self.low[k], self.high[k] = at_least, at_most
                    atoms.extend(self.edges[k])
        return True
