"""Which rows of features an atom can have at all: chemistry an attacker knows.

Loose on purpose: a row that is refused is never looked for. Elements without rules of
their own are only held to their valences and masses.
"""

from __future__ import annotations

import functools

import numpy as np

from jaxinv.data.graphs.atoms import (
    CHARGES,
    ELEMENTS,
    ISOTOPE_MASSES,
    MASSES,
    NATURAL_MASSES,
    places,
)
from jaxinv.data.graphs.molecule_building import valences_left

SP, SP2, SP3 = 1, 2, 3
"""Columns of the group "hybridisation"."""
MAIN = {5: 3, 6: 4, 7: 3, 8: 2}
"""Valence of the neutral atoms whose hybridisation follows from their bonds."""
HALOGENS = (1, 9)
"""With hydrogen: never chiral, aromatic or bonded twice."""


def possible_atoms(features: np.ndarray) -> np.ndarray:
    """`[N]`, whether a row of `MOLECULE_GROUPS`, `[N, 140]`, can be an atom's."""
    if not len(features):
        return np.zeros(0, bool)
    return np.array([_possible(tuple(row)) for row in places(features).tolist()])


@functools.lru_cache(maxsize=100_000)
def _possible(row: tuple[int, ...]) -> bool:
    element, charge, degree, chirality, hydrogens, mass, aromatic, hybrid = row
    number, charge = ELEMENTS[element], CHARGES[charge]
    if MASSES[mass] != NATURAL_MASSES[element] and MASSES[mass] not in ISOTOPE_MASSES:
        return False
    left = valences_left(number, charge, degree, hydrogens)
    if not left:
        return False
    if aromatic and (degree < 2 or hybrid != SP2):
        return False
    if chirality and (degree < 3 or hydrogens > 1 or hybrid in (SP, SP2)):
        return False
    if number in HALOGENS:
        return not aromatic and not chirality
    if number in MAIN and not charge and degree + hydrogens:
        extra = MAIN[number] - degree - hydrogens
        # A lone pair beside a double bond makes sp2 of what has single bonds only.
        flat = (SP2, SP3) if number > 6 else (SP2,) if number == 5 else (SP3,)
        return extra >= 0 and hybrid in {0: flat, 1: (SP2,), 2: (SP, SP2)}.get(
            extra, (SP,)
        )
    return True
