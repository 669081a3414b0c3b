"""Circles of friends: SNAP's ego-Facebook, people with anonymised profiles."""

from __future__ import annotations

from pathlib import Path

from jaxinv.data.graphs.network_files import read_network
from jaxinv.data.graphs.networks import Network


def load_ego(path: Path) -> Network:
    """People with binary profile columns, from `edge_index`, `x_*` and `gender`.

    The label is the anonymised gender, -1 where unknown. Some people have no profile
    column at all, and some profiles are the same.

    Raises:
      InputError: as `read_network` has it.
      OSError: the system refuses to open or read it.
    """
    return read_network(path, "gender")
