"""From a graph back to a molecule: to draw it, and to judge whether it can exist.

The features state element, charge, hydrogens and aromaticity, the adjacency who is
bonded; the orders of the bonds are left out, and are found again here from the
valences. RDKit has the last word on what they add up to.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxinv.data.graphs.atoms import (
    CHARGES,
    ELEMENTS,
    MASSES,
    NATURAL_MASSES,
    atom_codes,
    chemistry,
    one_hot,
    places,
    quiet,
)
from jaxinv.data.graphs.bond_orders import extra_orders
from jaxinv.data.graphs.molecules import check_groups
from jaxinv.errors import InputError
from jaxinv.graph import Graph, GraphSpec, real

if TYPE_CHECKING:
    from rdkit.Chem import Mol

MAX_EACH = 4
"""Solutions listed of each unsaturated piece."""
MAX_STEPS = 500
"""Choices tried in each; molecules of Tox21 take at most 28."""
MAX_BUILT = 8
"""Combinations that RDKit is asked about; for molecules of Tox21 it is always one."""

# Their own valences hold for ions too: PF6-, sulphonium, arsonates.
_HYPERVALENT = (15, 16, 33, 34)
_CHIRALITY = 3


def build_molecule(graph: Graph, spec: GraphSpec) -> Mol | None:
    """A sanitised molecule with the atoms and bonds of a graph, in its node order.

    Among several it is one whose recomputed features agree with the graph's, if any
    does. Chirality is not set: what the feature says depends on the order in which
    bonds were written, which a graph does not hold.

    Args:
      graph: with zeros and ones; padding is dropped.
      spec: with the groups `MOLECULE_GROUPS`.

    Returns:
      None where no orders of the bonds fit the valences.

    Raises:
      InputError: the spec is not one of molecules, RDKit is not installed.
    """
    return _search(graph, spec)[0]


def is_molecule(graph: Graph, spec: GraphSpec) -> bool:
    """Whether such a molecule exists and has just these features, chirality aside.

    Raises:
      InputError: the spec is not one of molecules, RDKit is not installed.
    """
    return _search(graph, spec)[1]


def smiles_of(graph: Graph, spec: GraphSpec) -> str | None:
    """The canonical SMILES of `build_molecule`, without chirality.

    Raises:
      InputError: the spec is not one of molecules, RDKit is not installed.
    """
    molecule = build_molecule(graph, spec)
    return None if molecule is None else chemistry().MolToSmiles(molecule)


def _search(graph: Graph, spec: GraphSpec) -> tuple[Mol | None, bool]:
    """The best molecule, and whether its features are those of the graph."""
    check_groups(spec)
    graph = real(graph)
    codes = places(graph.features)
    exact = np.array_equal(one_hot(codes), graph.features)
    bonded = np.argwhere(np.triu(graph.adjacency, 1))
    edges = [(int(i), int(j)) for i, j in bonded]
    frame = _frame(codes, edges)
    options = [
        valences_left(
            atom.GetAtomicNum(), atom.GetFormalCharge(), atom.GetDegree(), int(code[4])
        )
        for atom, code in zip(frame.GetAtoms(), codes, strict=True)
    ]
    pieces = extra_orders(
        options,
        edges,
        _wary(frame, codes, options),
        max_each=MAX_EACH,
        max_steps=MAX_STEPS,
    )
    best = None
    with quiet():
        for chosen in itertools.islice(itertools.product(*pieces), MAX_BUILT):
            extra = {k: v for part in chosen for k, v in part.items()}
            molecule = _sanitised(frame, extra)
            if molecule is None:
                continue
            if exact and _agrees(molecule, codes):
                return molecule, True
            best = best or molecule
    return best, False


def _frame(codes: np.ndarray, edges: list[tuple[int, int]]) -> Any:
    """The atoms as the features state them, all bonds single, not sanitised."""
    chem = chemistry()
    molecule = chem.RWMol()
    for element, charge, _, _, hydrogens, mass, _, _ in codes.tolist():
        atom = chem.Atom(ELEMENTS[element])
        atom.SetFormalCharge(CHARGES[charge])
        atom.SetNumExplicitHs(hydrogens)
        atom.SetNoImplicit(True)
        if MASSES[mass] != NATURAL_MASSES[element]:
            atom.SetIsotope(MASSES[mass])
        molecule.AddAtom(atom)
    for one, other in edges:
        molecule.AddBond(one, other, chem.BondType.SINGLE)
    chem.FastFindRings(molecule)
    return molecule


def valences_left(
    number: int, charge: int, degree: int, hydrogens: int
) -> tuple[int, ...]:
    """What the extra orders of an atom's bonds may add up to; empty for no atom."""
    taken = degree + hydrogens
    if not taken:
        return (0,)  # a bare ion or atom, as in salts
    table = chemistry().GetPeriodicTable()
    # An ion has the valences of the neutral atom with as many electrons.
    valences = set(table.GetValenceList(max(number - charge, 0)))
    if not charge or number in _HYPERVALENT:
        valences |= set(table.GetValenceList(number))
    if -1 in valences | set(table.GetValenceList(number)):
        return tuple(range(5))  # metals take what they get
    return tuple(sorted(v - taken for v in valences if v >= taken))


def _wary(frame: Any, codes: np.ndarray, options: list[tuple[int, ...]]) -> list[bool]:
    """Bonds that are single unless they must not be."""
    wary = []
    for bond in frame.GetBonds():
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        aromatic = codes[ends, 6]
        wary.append(
            any(len(options[atom]) > 1 for atom in ends)
            or aromatic[0] != aromatic[1]
            or bool(aromatic.all() and not bond.IsInRing())
        )
    return wary


def _sanitised(frame: Any, extra: dict[int, int]) -> Mol | None:
    chem = chemistry()
    molecule = chem.RWMol(frame)
    orders = (chem.BondType.SINGLE, chem.BondType.DOUBLE, chem.BondType.TRIPLE)
    for index, value in extra.items():
        molecule.GetBondWithIdx(index).SetBondType(orders[value])
    try:
        chem.SanitizeMol(molecule)
    except chem.MolSanitizeException:
        return None
    return molecule.GetMol()


def _agrees(molecule: Mol, codes: np.ndarray) -> bool:
    try:
        found = np.asarray(atom_codes(molecule))
    except InputError:
        return False
    differs = found != codes
    differs[:, _CHIRALITY] = False
    return not differs.any()
