"""What an atom looks like to a graph network: eight one-hot groups, 140 columns.

The sizes and the order of the groups are GRAIN's. Its lists of elements and masses are
in none of our sources; those below are our own choice of the same sizes. The elements
are the 52 that occur in the Tox21, ClinTox and BBBP files, the masses are theirs in
whole units and six isotopes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxinv.errors import InputError
from jaxinv.graph import FeatureGroup

if TYPE_CHECKING:
    from rdkit.Chem import Mol

ELEMENTS = (
    *(1, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 19, 20, 22, 23, 24, 25, 26),
    *(27, 28, 29, 30, 32, 33, 34, 35, 38, 40, 42, 43, 46, 47, 48, 49, 50, 51, 53, 56),
    *(60, 64, 66, 70, 78, 79, 80, 81, 82, 83),
)
"""Atomic numbers."""
NATURAL_MASSES = (
    *(1, 7, 9, 11, 12, 14, 16, 19, 23, 24, 27, 28, 31, 32, 35, 39, 40, 48, 51, 52, 55),
    *(56, 59, 59, 64, 65, 73, 75, 79, 80, 88, 91, 96, 98, 106, 108, 112, 115, 119, 122),
    *(127, 137, 144, 157, 162, 173, 195, 197, 201, 204, 207, 209),
)
"""Of `ELEMENTS` without a stated isotope, rounded; cobalt and nickel share one."""
ISOTOPE_MASSES = (2, 13, 18, 99, 123, 131)
"""2H, 13C, 18F (or 18O), 99Tc, 123I and 131I; others share a mass above, or have none.
"""
MASSES = tuple(sorted({*NATURAL_MASSES, *ISOTOPE_MASSES}))
CHARGES = (-2, -1, 0, 1, 2, 3)
# RDKit's numbers of these enums are part of its file format and do not change.
CHIRALITIES = (0, 1, 2)
"""None, clockwise, counter-clockwise."""
HYBRIDISATIONS = (1, 2, 3, 4, 6, 7)
"""s, sp, sp2, sp3, sp3d, sp3d2; the column after them is for any other or none."""

MOLECULE_GROUPS = (
    FeatureGroup("element", 52),
    FeatureGroup("charge", 6),
    FeatureGroup("degree", 7),
    FeatureGroup("chirality", 3),
    FeatureGroup("hydrogens", 6),
    FeatureGroup("mass", 57),
    FeatureGroup("aromatic", 2),
    FeatureGroup("hybridisation", 7),
)
"""Of the 140 columns, in their order."""

MAX_CHARACTERS = 2000
"""Of a SMILES, so that a hostile one cannot claim a large adjacency matrix."""

_SIZES = np.array([group.size for group in MOLECULE_GROUPS])
_STARTS = np.cumsum(_SIZES) - _SIZES


def _places(values: tuple[int, ...]) -> dict[int, int]:
    return {value: place for place, value in enumerate(values)}


_ELEMENT, _CHARGE, _MASS = map(_places, (ELEMENTS, CHARGES, MASSES))
_DEGREE, _HYDROGENS = (_places(tuple(range(size))) for size in (7, 6))
_CHIRALITY, _HYBRIDISATION = map(_places, (CHIRALITIES, HYBRIDISATIONS))


def chemistry() -> Any:
    """The module `rdkit.Chem`.

    Raises:
      InputError: it is not installed.
    """
    try:
        from rdkit import Chem
    except ImportError as error:
        raise InputError(
            f"molecules need RDKit ({error}); pip install 'jaxinv[molecules]'"
        ) from None
    return Chem


def quiet() -> Any:
    """A context in which RDKit writes nothing to stderr; what it says is raised."""
    chemistry()
    from rdkit import rdBase

    return rdBase.BlockLogs()


def parsed(smiles: str) -> Mol:
    """The molecule of a SMILES, hydrogens implicit where RDKit makes them so.

    Raises:
      InputError: it is none, or RDKit is not installed.
    """
    chem = chemistry()
    # RDKit would take what follows a blank for the molecule's name.
    if not isinstance(smiles, str) or len(smiles.split()) != 1 or not smiles.isascii():
        raise InputError(f"smiles is {shown(smiles)}; expected one molecule")
    if len(smiles) > MAX_CHARACTERS:
        raise InputError(
            f"smiles {shown(smiles)} has {len(smiles)} characters; expected at most "
            f"{MAX_CHARACTERS}"
        )
    with quiet():
        molecule = chem.MolFromSmiles(smiles)
    if molecule is None or not molecule.GetNumAtoms():
        raise InputError(f"smiles {shown(smiles)} is no molecule that RDKit can parse")
    return molecule


def shown(smiles: object) -> str:
    """A SMILES for a message of one line."""
    text = ascii(smiles)
    return text if len(text) <= 80 else f"{text[:76]}...'"


def atom_codes(molecule: Mol) -> list[tuple[int, ...]]:
    """Each atom's place in each of the eight groups.

    Raises:
      InputError: an atom is outside the vocabulary.
    """
    codes = []
    for atom in molecule.GetAtoms():
        try:
            codes.append(
                (
                    _ELEMENT[atom.GetAtomicNum()],
                    _CHARGE[atom.GetFormalCharge()],
                    _DEGREE[atom.GetDegree()],
                    _CHIRALITY.get(int(atom.GetChiralTag()), 0),
                    _HYDROGENS[atom.GetTotalNumHs()],
                    _MASS[round(atom.GetMass())],
                    int(atom.GetIsAromatic()),
                    _HYBRIDISATION.get(int(atom.GetHybridization()), 6),
                )
            )
        except KeyError:
            raise InputError(_outside(atom)) from None
    return codes


def _outside(atom: Any) -> str:
    name = f"atom {atom.GetIdx()} ({atom.GetSmarts()[:20]})"
    for group, value, known in (
        ("element", atom.GetAtomicNum(), _ELEMENT),
        ("charge", atom.GetFormalCharge(), _CHARGE),
        ("degree", atom.GetDegree(), _DEGREE),
        ("hydrogens", atom.GetTotalNumHs(), _HYDROGENS),
        ("mass", round(atom.GetMass()), _MASS),
    ):
        if value not in known:
            return f"{name} has {group} {value}, which is outside the vocabulary"
    return f"{name} is outside the vocabulary"


def one_hot(codes: Any) -> np.ndarray:
    """`[A, 8]` places in the groups to `[A, 140]` float32 features."""
    codes = np.asarray(codes).reshape(-1, len(_SIZES))
    features = np.zeros((len(codes), int(_SIZES.sum())), np.float32)
    np.put_along_axis(features, codes + _STARTS, 1, axis=1)
    return features


def places(features: np.ndarray) -> np.ndarray:
    """`[A, 140]` features to `[A, 8]` places in the groups: the largest of each."""
    parts = np.split(np.asarray(features), _STARTS[1:], axis=1)
    return np.stack([part.argmax(1) for part in parts], axis=1)
