"""Small graphs out of a large network, of chosen sizes: one client's data each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxinv.data.graphs.networks import (
    Network,
    network_spec,
    subgraph,
    with_degrees_of,
)
from jaxinv.errors import InputError
from jaxinv.graph import Graph, GraphSpec

SIZE_MIX = ((20, 1, 10), (40, 10, 20), (30, 20, 30), (10, 30, 40))
"""GRAIN's hundred graphs: how many, of at least and at most so many nodes."""

HOPS = 3
BALLS = 3
MAX_TRIES = 20_000
"""Of one graph, before its size is taken to be out of reach."""

Sizes = Sequence[tuple[int, int]]
"""For each graph the least and the most nodes, both included."""


class Samples(NamedTuple):
    """Graphs of one network, and what a node of them looks like."""

    graphs: tuple[Graph, ...]
    spec: GraphSpec
    """Mean and std: words over the network, degrees over these graphs."""
    nodes: tuple[np.ndarray, ...]
    """Of each graph, their numbers in the network."""
    alike: int
    """How many graphs of the right size were put back for two equal nodes."""


def drawn_sizes(
    num: int = 100,
    seed: int = 42,
    mix: Sequence[tuple[int, int, int]] = SIZE_MIX,
) -> tuple[tuple[int, int], ...]:
    """Sizes in the proportions of a mix, in random order.

    The mix is used up before it is begun again, so a hundred are exactly GRAIN's, and
    the first few of them a fair draw.
    """
    if num < 1 or not mix:
        raise InputError(f"num is {num!r}, of a mix of {len(mix)}; expected >= 1 each")
    whole = [(least, most) for count, least, most in mix for _ in range(count)]
    rng, sizes = np.random.default_rng(seed), []
    while len(sizes) < num:
        sizes += [whole[i] for i in rng.permutation(len(whole))]
    return tuple(sizes[:num])


def citation_samples(
    network: Network,
    *,
    sizes: Sizes,
    seed: int = 42,
    degree: bool = True,
    max_degree: int = 99,
    distinct: bool = True,
) -> Samples:
    """Neighbourhoods of random nodes, labelled with their most frequent class.

    For each graph three centres are drawn. The 3-hop ball of each is added if all of
    it still fits under the size; the union may be in several pieces. It is drawn again
    until its size is within the bounds. Centres have a label; of classes that are
    equally frequent, the lowest counts.

    Args:
      network: the source.
      sizes: of each graph wanted, as from `drawn_sizes`.
      seed: of the draws.
      degree: whether features state the degree.
      max_degree: the largest they can state.
      distinct: whether no two nodes of a graph may have the same features, words and
        degree together, as GRAIN's assembly needs.

    Raises:
      InputError: a size is not found in `MAX_TRIES` draws, or no node has a label.
    """
    spec = network_spec(network, degree=degree, max_degree=max_degree)
    labelled = np.flatnonzero(network.labels >= 0)
    balls: dict[int, frozenset[int]] = {}

    def draw(rng: np.random.Generator, least: int, most: int):
        nodes: frozenset[int] = frozenset()
        for centre in rng.choice(labelled, BALLS).tolist():
            if centre not in balls:
                balls[centre] = _ball(network, centre)
            union = nodes | balls[centre]
            nodes = union if len(union) <= most else nodes
        if len(nodes) < least:
            return None
        classes = network.labels[list(nodes)]
        label = np.bincount(classes[classes >= 0]).argmax()
        return np.asarray(sorted(nodes)), int(label)

    return _sampled(network, spec, draw, sizes, seed, distinct)


def ego_samples(
    network: Network,
    *,
    sizes: Sizes,
    seed: int = 42,
    num_classes: int = 6,
    degree: bool = True,
    max_degree: int = 99,
    distinct: bool = True,
) -> Samples:
    """Connected circles grown one random neighbour at a time, with random labels.

    For each graph a size within the bounds and a first node are drawn; then one of
    all neighbours of the circle joins it until the size is reached.

    Args:
      network: the source.
      sizes: of each graph wanted, as from `drawn_sizes`.
      seed: of the draws.
      num_classes: labels are drawn from so many; the network's own are not used.
      degree: whether features state the degree.
      max_degree: the largest they can state.
      distinct: as in `citation_samples`.

    Raises:
      InputError: a size is not found in `MAX_TRIES` draws.
    """
    spec = network_spec(
        network, degree=degree, max_degree=max_degree, num_classes=num_classes
    )

    def draw(rng: np.random.Generator, least: int, most: int):
        size = int(rng.integers(least, most + 1))
        nodes, around = [int(rng.integers(network.num_nodes))], set()
        while len(nodes) < size:
            around |= set(network.neighbours(nodes[-1]).tolist())
            around -= set(nodes)
            if not around:
                return None
            nodes.append(sorted(around)[rng.integers(len(around))])
        return np.asarray(nodes), int(rng.integers(num_classes))

    return _sampled(network, spec, draw, sizes, seed, distinct)


def _sampled(
    network: Network,
    spec: GraphSpec,
    draw: Callable[[np.random.Generator, int, int], tuple[np.ndarray, int] | None],
    sizes: Sizes,
    seed: int,
    distinct: bool,
) -> Samples:
    rng = np.random.default_rng(seed)
    graphs, members, alike = [], [], 0
    for least, most in sizes:
        if not 1 <= least <= most <= network.num_nodes:
            raise InputError(
                f"sizes has {(least, most)}; expected 1 to {network.num_nodes} nodes, "
                "the least first"
            )
        for _ in range(MAX_TRIES):
            found = draw(rng, least, most)
            if found is None:
                continue
            nodes, label = found
            sample = subgraph(network, nodes, spec, label)
            if distinct and len(np.unique(sample.features, axis=0)) < len(nodes):
                alike += 1
                continue
            graphs.append(sample)
            members.append(nodes)
            break
        else:
            raise InputError(
                f"sizes has {(least, most)}; {MAX_TRIES} draws found no such graph"
                + (" of nodes that all differ" if distinct else "")
            )
    spec = with_degrees_of(graphs, spec)
    return Samples(tuple(graphs), spec, tuple(members), alike)


def _ball(network: Network, centre: int) -> frozenset[int]:
    """All nodes within three steps."""
    found, edge = {centre}, {centre}
    for _ in range(HOPS):
        edge = {n for node in edge for n in network.neighbours(node).tolist()} - found
        found |= edge
    return frozenset(found)
