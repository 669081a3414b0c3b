"""Graphs to audit: molecules, citations, circles of friends, and one's own.

NumPy on the host only. RDKit is imported when the first molecule is. Every reader
treats its file as a stranger's, as those of images do.
"""

from jaxinv.data.graphs.attributed import Attributed, from_arrays, from_networkx
from jaxinv.data.graphs.citations import load_citations
from jaxinv.data.graphs.ego import load_ego
from jaxinv.data.graphs.known_molecules import KNOWN_MOLECULES, load_known_molecules
from jaxinv.data.graphs.molecule_building import (
    build_molecule,
    is_molecule,
    smiles_of,
)
from jaxinv.data.graphs.molecule_domain import molecule_domain
from jaxinv.data.graphs.molecules import (
    MOLECULE_GROUPS,
    Molecules,
    first_shuffled,
    load_molecules,
    molecule_graph,
    molecule_spec,
)
from jaxinv.data.graphs.networks import Network, network_spec, subgraph
from jaxinv.data.graphs.samples import (
    SIZE_MIX,
    Samples,
    citation_samples,
    drawn_sizes,
    ego_samples,
)

__all__ = [
    "KNOWN_MOLECULES",
    "MOLECULE_GROUPS",
    "SIZE_MIX",
    "Attributed",
    "Molecules",
    "Network",
    "Samples",
    "build_molecule",
    "citation_samples",
    "drawn_sizes",
    "ego_samples",
    "first_shuffled",
    "from_arrays",
    "from_networkx",
    "is_molecule",
    "load_citations",
    "load_ego",
    "load_known_molecules",
    "load_molecules",
    "molecule_domain",
    "molecule_graph",
    "molecule_spec",
    "network_spec",
    "smiles_of",
    "subgraph",
]
