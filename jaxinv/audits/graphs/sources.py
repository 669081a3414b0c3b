"""Where the clients' graphs come from, for either case."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxinv.audits.graphs.config import (
    AuditConfig,
    CitationsConfig,
    MoleculesConfig,
)
from jaxinv.audits.graphs.generated import NAME, generated_network
from jaxinv.data.archive import names, open_archive
from jaxinv.data.graphs import (
    KNOWN_MOLECULES,
    citation_samples,
    drawn_sizes,
    ego_samples,
    first_shuffled,
    load_citations,
    load_ego,
    load_known_molecules,
    load_molecules,
    molecule_domain,
)
from jaxinv.errors import InputError
from jaxinv.graph import ANY, Domain, Graph, GraphSpec

NUM = 20
"""Graphs that are attacked where none are counted and the data holds many."""


class Source(NamedTuple):
    """The clients' graphs, and what is public about them."""

    name: str
    """Of the data, for reports."""
    about: str
    """One sentence on how the graphs were taken from it."""
    total: int
    """How many graphs, or nodes of one network, the data holds."""
    names: tuple[str, ...]
    """One for each graph, for people."""
    smiles: tuple[str | None, ...]
    """As the data writes it; None for what is no molecule."""
    graphs: tuple[Graph, ...]
    spec: GraphSpec
    domain: Domain
    """What the attacker is told of such graphs."""


def source_of(config: AuditConfig) -> Source:
    """The graphs that a configuration asks for.

    Raises:
      InputError: the data does not fit, or RDKit is missing.
      OSError: it cannot be read.
    """
    if isinstance(config, MoleculesConfig):
        found = _molecules(config)
    else:
        assert isinstance(config, CitationsConfig)
        found = _citations(config)
    return found if config.task == "graph" else _with_node_labels(found, config.seed)


def _with_node_labels(source: Source, seed: int) -> Source:
    """The same graphs with a random class for every node, as no data has them."""
    graphs = []
    for i, graph in enumerate(source.graphs):
        rng = np.random.default_rng((seed, i))
        drawn = rng.integers(0, source.spec.num_classes, graph.num_nodes)
        graphs.append(graph._replace(labels=drawn.astype(np.int32)))
    return source._replace(
        graphs=tuple(graphs),
        spec=dataclasses.replace(source.spec, task="node"),
        about=f"{source.about}; classes of nodes are random numbers",
    )


def _molecules(config: MoleculesConfig) -> Source:
    called = {smiles: name for name, smiles in KNOWN_MOLECULES.items()}
    if config.data is None:
        found, num = load_known_molecules(), config.num
        name = "embedded molecules"
    else:
        path = _file(config.data, ".csv")
        found, called, name = load_molecules(path, label=config.label), {}, path.name
        num = config.num or min(NUM, len(found.graphs))
    total = len(found.graphs)
    if num is not None:
        found = first_shuffled(found, num, config.seed)
    about = f"{len(found.graphs)} of {total} molecules"
    if found.unreadable:
        rows = len(found.unreadable)
        about += (
            f"; {rows} row{' holds' if rows == 1 else 's hold'} none that is readable"
        )
    return Source(
        name,
        about,
        total,
        tuple(called.get(s, f"molecule {i}") for i, s in enumerate(found.smiles)),
        found.smiles,
        found.graphs,
        found.spec,
        ANY if config.no_chemistry else molecule_domain(found.spec),
    )


def _citations(config: CitationsConfig) -> Source:
    sizes = drawn_sizes(config.num or NUM, config.seed)
    if config.data is None:
        network, sampled = generated_network(), citation_samples
    else:
        path = _file(config.data, ".npz")
        if _holds(path, "gender"):
            network, sampled = load_ego(path), ego_samples
        else:
            network, sampled = load_citations(path), citation_samples
    samples = sampled(network, sizes=sizes, seed=config.seed)
    num = len(samples.graphs)
    about = (
        f"{num} neighbourhoods of a network of {network.num_nodes} nodes, none with "
        f"two equal nodes ({samples.alike} that had were drawn again)"
    )
    if network.name == NAME:
        about += "; papers, words and citations are random numbers"
    return Source(
        network.name,
        about,
        network.num_nodes,
        tuple(f"graph {i}" for i in range(num)),
        (None,) * num,
        samples.graphs,
        samples.spec,
        ANY,
    )


def _file(data: str, ending: str) -> Path:
    path = Path(data)
    if path.suffix.lower() != ending:
        raise InputError(f"data is {data!r}; expected a {ending} file")
    return path


def _holds(path: Path, key: str) -> bool:
    try:
        with open_archive(path) as archive:
            return key in names(archive)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None
