"""The graphs of `bench.grain`, and what is public about them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxinv.audits.graphs.config import CitationsConfig, MoleculesConfig
from jaxinv.audits.graphs.sources import source_of
from jaxinv.data.graphs import (
    citation_samples,
    ego_samples,
    load_citations,
    load_ego,
)
from jaxinv.graph import ANY, Domain, Graph, GraphSpec

MOLECULES = ("tox21", "clintox", "bbbp")
NETWORKS = {
    "citeseer": "citeseer.npz",
    "cora": "cora.npz",
    "ego": "facebook_ego.npz",
}
"""Files by name."""


class Graphs(NamedTuple):
    """Graphs of one source, and what the attacker is told of all of them."""

    names: Sequence[str]
    graphs: Sequence[Graph]
    spec: GraphSpec
    domain: Domain


def molecules(
    data: str, *, num: int, seed: int, task: str, label: str | None, no_chemistry: bool
) -> Graphs:
    """The first ones after a shuffle.

    Args:
      data: "known", one of `MOLECULES`, or a csv of SMILES.
      num: how many.
      seed: of the shuffle, and of the labels of nodes.
      task: what is labelled.
      label: column of a csv of one's own.
      no_chemistry: whether the attacker is not told that they are molecules.
    """
    path = None if data == "known" else data
    if data in MOLECULES:
        path = str(_folder() / f"{data}.csv")
    source = source_of(
        MoleculesConfig(
            data=path,
            num=num,
            seed=seed,
            task=task,
            label=label,
            no_chemistry=no_chemistry,
        )
    )
    names = [smiles or "" for smiles in source.smiles]
    return Graphs(names, source.graphs, source.spec, source.domain)


def neighbourhoods(data: str, *, num: int, seed: int, task: str) -> Graphs:
    """Parts of a network, of the published mix of sizes; see `molecules`."""
    path = str(_folder() / NETWORKS[data])
    source = source_of(CitationsConfig(data=path, num=num, seed=seed, task=task))
    return Graphs(_numbered(data, num), source.graphs, source.spec, source.domain)


def neighbourhoods_of(
    data: str, *, num: int, seed: int, sizes: tuple[int, int]
) -> Graphs:
    """Parts of a network of at least and at most so many nodes, each with one label."""
    path = _folder() / NETWORKS[data]
    load, draw = load_citations, citation_samples
    if data == "ego":
        load, draw = load_ego, ego_samples
    samples = draw(load(path), sizes=(sizes,) * num, seed=seed)
    return Graphs(_numbered(data, num), samples.graphs, samples.spec, ANY)


def _numbered(data: str, num: int) -> list[str]:
    return [f"{data}-{i}" for i in range(num)]


def _folder() -> Path:
    return Path(os.environ.get("JAXINV_DATA", "."))
