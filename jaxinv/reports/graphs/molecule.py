"""Molecules as RDKit draws them."""

from __future__ import annotations

from collections.abc import Collection

from jaxinv.data.graphs import build_molecule, molecule_spec
from jaxinv.data.graphs.atoms import ELEMENTS, chemistry, places, quiet
from jaxinv.graph import Graph
from jaxinv.reports.graphs.difference import Edge
from jaxinv.reports.page import data_uri

WIDTH, HEIGHT = 260, 180
_WRONG = (0.96, 0.55, 0.47)


def molecule_uri(graph: Graph, wrong: Collection[Edge] = ()) -> str | None:
    """A drawing as the address of an SVG, or None where the graph is no molecule.

    Mirror images look the same: a graph does not say in which order bonds were written.

    Args:
      graph: with the columns of molecules.
      wrong: bonds to mark.

    Raises:
      InputError: RDKit is not installed.
    """
    molecule = build_molecule(graph, molecule_spec())
    if molecule is None:
        return None
    from rdkit.Chem.Draw import rdMolDraw2D

    bonds = [molecule.GetBondBetweenAtoms(*edge).GetIdx() for edge in wrong]
    with quiet():
        canvas = rdMolDraw2D.MolDraw2DSVG(WIDTH, HEIGHT)
        canvas.drawOptions().fixedBondLength = 28
        rdMolDraw2D.PrepareAndDrawMolecule(
            canvas,
            molecule,
            highlightAtoms=[],
            highlightBonds=bonds,
            highlightBondColors=dict.fromkeys(bonds, _WRONG),
        )
        canvas.FinishDrawing()
    return data_uri(canvas.GetDrawingText().encode(), "image/svg+xml")


def symbols(graph: Graph) -> list[str]:
    """The element of each atom, for a graph that is no molecule."""
    table = chemistry().GetPeriodicTable()
    return [table.GetElementSymbol(ELEMENTS[c]) for c in places(graph.features)[:, 0]]
