"""Molecules as graphs: one SMILES, or a csv file of many with a label each."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxinv.data.bounded import check_bytes, read_bytes
from jaxinv.data.graphs.atoms import (
    MOLECULE_GROUPS,
    atom_codes,
    chemistry,
    one_hot,
    parsed,
    quiet,
    shown,
)
from jaxinv.errors import InputError, nearest
from jaxinv.graph import Graph, GraphSpec, graph

if TYPE_CHECKING:
    from rdkit.Chem import Mol

KNOWN_LABELS = {"tox21": "SR-p53", "clintox": "CT_TOX", "bbbp": "p_np"}
"""File name, case and ending aside: the column that GRAIN predicts."""

LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}


class Molecules(NamedTuple):
    """Labelled molecules of one source."""

    smiles: tuple[str, ...]
    """As the source writes them."""
    graphs: tuple[Graph, ...]
    """One of each SMILES, atoms in its order, not padded."""
    labels: np.ndarray
    """`[N]` int32, 0 or 1; the graphs hold them too."""
    spec: GraphSpec
    """Its mean and std are measured over all atoms of the source."""
    skipped: int
    """How many rows have no label."""
    unreadable: tuple[str, ...]
    """Labelled SMILES that RDKit refuses, or with atoms outside the vocabulary."""


def molecule_spec() -> GraphSpec:
    """Of molecules in two classes; `spec.measured(graphs)` gives it mean and std."""
    return GraphSpec(MOLECULE_GROUPS, num_classes=2, degree="degree")


def molecule_graph(smiles: str, label: int, spec: GraphSpec) -> Graph:
    """A molecule as a graph, atoms in the order of the SMILES.

    Hydrogens are counted in their atom's features and are no nodes, but for those
    that RDKit keeps (isotopes, ions, H2). Kinds of bonds are left out.

    Args:
      smiles: one molecule; its parts, as of a salt, are one graph of several pieces.
      label: its class.
      spec: with the groups `MOLECULE_GROUPS`.

    Raises:
      InputError: RDKit cannot parse it, an atom is outside the vocabulary, the label
        is no class, RDKit is not installed.
    """
    check_groups(spec)
    molecule = parsed(smiles)
    try:
        codes = atom_codes(molecule)
    except InputError as error:
        raise InputError(f"smiles {shown(smiles)}: {error}") from None
    return graph(one_hot(codes), _adjacency(molecule), label, spec)


def check_groups(spec: GraphSpec) -> None:
    """Refuses a spec whose columns are not those of molecules.

    Raises:
      InputError: they are not.
    """
    if spec.groups != MOLECULE_GROUPS:
        names = [group.name for group in spec.groups][:8]
        raise InputError(f"spec has groups {names}; expected MOLECULE_GROUPS")


def load_molecules(
    path: Path,
    *,
    label: str | None = None,
    smiles: str = "smiles",
    max_molecules: int | None = None,
) -> Molecules:
    """Reads a csv file with a header line, a column of SMILES and one of labels.

    Rows without a label are skipped and counted. Rows that are no molecule, or hold
    an atom outside the vocabulary, are listed in `unreadable`.

    Args:
      path: the file.
      label: the column of zeros and ones; None for that of `KNOWN_LABELS`, or for the
        only other column.
      smiles: the column of SMILES.
      max_molecules: stop after so many readable ones; mean and std are then of them.

    Raises:
      InputError: not readable, a column unknown, a label that is neither 0 nor 1,
        nothing readable in it, RDKit is not installed.
      OSError: the system refuses to open or read it.
    """
    path = Path(path)
    if max_molecules is not None and max_molecules < 1:
        raise InputError(f"max_molecules is {max_molecules!r}; expected >= 1 or None")
    chemistry()  # before a long file is read in vain
    try:
        return _read(path, label, smiles, max_molecules)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None


def from_smiles(
    smiles: Sequence[str],
    labels: Sequence[int],
    skipped: int = 0,
    max_molecules: int | None = None,
) -> Molecules:
    """Molecules of SMILES and labels in memory, as `load_molecules` has them.

    Raises:
      InputError: none is readable, they take too much memory, RDKit is not installed.
    """
    kept, codes, bonds, unreadable = [], [], [], []
    num_atoms, num_columns = 0, molecule_spec().num_features
    with quiet():
        for row, text in enumerate(smiles):
            try:
                molecule = parsed(text)
                codes.append(atom_codes(molecule))
            except InputError:
                unreadable.append(text)
                continue
            num_atoms += molecule.GetNumAtoms()
            check_bytes(4 * num_columns * num_atoms, "features of the molecules")
            kept.append(row)
            bonds.append(_adjacency(molecule))
            if len(kept) == max_molecules:
                break
    if not kept:
        raise InputError(
            f"holds no readable molecule among {len(smiles)} rows with a label"
        )
    ends = np.cumsum([len(part) for part in codes])
    features = one_hot([code for part in codes for code in part])
    chosen = np.asarray(labels, np.int32)[kept]
    # Copies, so that a few graphs kept do not keep the memory of them all.
    graphs = tuple(
        Graph(rows.copy(), adjacency, np.ones(len(rows), np.float32), np.asarray(label))
        for rows, adjacency, label in zip(
            np.split(features, ends[:-1]), bonds, chosen, strict=True
        )
    )
    names = tuple(str(smiles[row]) for row in kept)
    spec = molecule_spec().measured(graphs)
    return Molecules(names, graphs, chosen, spec, skipped, tuple(unreadable))


def first_shuffled(molecules: Molecules, num: int, seed: int = 42) -> Molecules:
    """The first so many after a shuffle; the spec stays that of all.

    Raises:
      InputError: `num` is not from 1 to how many there are.
    """
    count = len(molecules.graphs)
    if not 1 <= num <= count:
        raise InputError(f"num is {num!r}; expected 1 to {count}, all there are")
    order = np.random.default_rng(seed).permutation(count)[:num]
    return molecules._replace(
        smiles=tuple(molecules.smiles[i] for i in order),
        graphs=tuple(molecules.graphs[i] for i in order),
        labels=molecules.labels[order],
    )


def _adjacency(molecule: Mol) -> np.ndarray:
    num = molecule.GetNumAtoms()
    adjacency = np.zeros((num, num), np.float32)
    for bond in molecule.GetBonds():
        one, other = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        adjacency[one, other] = adjacency[other, one] = 1
    return adjacency


def _read(
    path: Path, label: str | None, smiles: str, max_molecules: int | None
) -> Molecules:
    try:
        text = read_bytes(path).decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"not a readable .csv ({error})") from None
    titles = [title.strip() for title in rows[0]] if rows else []
    if smiles not in titles:
        raise InputError(f"smiles column is {smiles!r}; {_known(smiles, titles)}")
    place = titles.index(smiles)
    target = titles.index(_label_column(path, label, smiles, titles))
    texts, labels, skipped = [], [], 0
    for line, row in enumerate(rows[1:], 2):
        value = row[target].strip() if target < len(row) else ""
        if not value:
            skipped += bool(row)
            continue
        if value not in LABELS:
            raise InputError(
                f"line {line} has label {value[:20]!r} in column "
                f"{titles[target][:40]!r}; expected 0, 1 or nothing"
            )
        texts.append(row[place].strip() if place < len(row) else "")
        labels.append(LABELS[value])
    return from_smiles(texts, labels, skipped, max_molecules)


def _label_column(path: Path, label: str | None, smiles: str, titles: list[str]) -> str:
    others = [title for title in titles if title != smiles]
    if label is None:
        label = KNOWN_LABELS.get(path.stem.lower())
        if label not in others and len(others) == 1:
            return others[0]
    if label is None:
        raise InputError(
            f"label is None, but there are {len(others)} other columns; "
            f"{_known(None, others)}"
        )
    if label not in others:
        raise InputError(f"label column is {label!r}; {_known(label, others)}")
    return label


def _known(name: object, titles: list[str]) -> str:
    return nearest(name, [title[:40] for title in titles[:16]])
