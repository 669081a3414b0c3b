"""What chemistry says of graphs that a gradient cannot tell apart."""

from __future__ import annotations

import functools
import math

from jaxinv.data.graphs.atom_rules import possible_atoms
from jaxinv.data.graphs.atoms import chemistry
from jaxinv.data.graphs.molecule_building import build_molecule, is_molecule
from jaxinv.graph import Domain, Graph, GraphSpec

RING_COSTS = {3: 1.5, 4: 2.0, 5: 0.4, 6: 0.0, 7: 1.2, 8: 2.5}
"""Our own order of how common rings are among drugs; any other size costs
`LARGE_RING`."""
LARGE_RING = 3.0
PIECE = 2.0
"""Of every piece beside the first."""


def molecule_domain(spec: GraphSpec) -> Domain:
    """What an attacker knows who is told that the graphs are molecules.

    Which atoms there can be (valences, masses), and which graphs RDKit makes molecules
    of with the very features of their nodes.
    """
    cost = functools.partial(implausibility, spec=spec)
    return Domain(possible_atoms, cost, ring_cost, PIECE)


def ring_cost(size: int) -> float:
    """How unlikely a ring of so many atoms is."""
    return RING_COSTS.get(size, LARGE_RING)


def implausibility(graph: Graph, spec: GraphSpec) -> float:
    """How unlikely a molecule is, by its rings and pieces; infinite for none.

    Raises:
      InputError: the spec is not one of molecules, RDKit is not installed.
    """
    if not is_molecule(graph, spec):
        return math.inf
    molecule = build_molecule(graph, spec)
    assert molecule is not None
    rings = [len(ring) for ring in molecule.GetRingInfo().AtomRings()]
    pieces = len(chemistry().GetMolFrags(molecule))
    cost = sum(map(ring_cost, rings))
    return cost + PIECE * (pieces - 1)
