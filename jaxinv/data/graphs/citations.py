"""Papers that cite each other, as Planetoid gives them: Cora and Citeseer."""

from __future__ import annotations

from pathlib import Path

from jaxinv.data.graphs.network_files import read_network
from jaxinv.data.graphs.networks import Network


def load_citations(path: Path) -> Network:
    """Papers with binary words and a field each, from `edge_index`, `x_*` and `y`.

    Raises:
      InputError: as `read_network` has it.
      OSError: the system refuses to open or read it.
    """
    return read_network(path, "y")
