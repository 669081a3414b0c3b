"""GRAIN: the client's whole graph from one gradient, exactly, with a certificate.

Drencheva, Petrov, Baader, Dimitrov and Vechev, "GRAIN: Exact Graph Reconstruction from
Gradients", ICLR 2025, arXiv 2503.01838: rows of features, then neighbourhoods of
growing depth, are tested for membership in the span of a layer's gradient. What follows
is ours: how many nodes there are of each type solves a linear system (the readout's
gradient), and the graphs are the simple graphs that match all half-edges, all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import threadpoolctl

from jaxinv.attacks.grain.assembly import Search
from jaxinv.attacks.grain.counting import integer_counts, proportional_counts
from jaxinv.attacks.grain.distinct import distinct_nodes
from jaxinv.attacks.grain.edge_counts import edge_counts
from jaxinv.attacks.grain.multiplicities import Counts, graph_label, shares, system
from jaxinv.attacks.grain.node_types import node_types
from jaxinv.attacks.grain.outcome import Certificate, GaveUp, Recovered
from jaxinv.attacks.grain.relaxed_adjacency import relaxed_adjacency, starts
from jaxinv.attacks.grain.scoring import distances
from jaxinv.attacks.grain.tower import base_index, level_span, towers
from jaxinv.attacks.grain.types import Types
from jaxinv.attacks.span import Span
from jaxinv.errors import InputError
from jaxinv.graph import ANY, Domain, Graph
from jaxinv.isomorphism import isomorphic
from jaxinv.models.graph_networks.base import GraphModel
from jaxinv.observation import Observation, mean_gradient


class Limits(NamedTuple):
    """Where the attack gives up."""

    candidates: int = 30_000_000
    """Neighbourhoods tested in one level."""
    nodes: int = 100
    """Of a graph."""
    class_nodes: int = 24
    """Of the graphs of a class, where the smallest one has fewer."""
    graphs: int = 64
    """Of a class that is listed."""
    seconds: float = 10.0
    """Of counting nodes and searching for graphs of them."""


LIMITS = Limits()
MOST_TOWERS = 12
"""Tried, should the first not lead to a graph."""
MOST_STARTS = 6
"""Of the search for edges between distinct nodes."""
SIZE_COST = 0.25
"""Of a node that a graph has more than the smallest of its class."""
ACCEPT = 1e-5
"""Relative distance of gradients up to which a graph is said to have the client's; the
rounding of a float32 gradient is some 1e-7, another graph's distance some 1e-2."""
NOISY = 20.0
"""A gradient's distance over the largest singular value of its noise."""
ACCEPT_NOISY = 1e-4
"""The same at most, where the spectrum shows more rounding than float32 has."""


def grain(
    model: GraphModel,
    observation: Observation,
    *,
    domain: Domain = ANY,
    limits: Limits = LIMITS,
) -> Recovered:
    """Recovers the graph behind one gradient.

    Runs on the host, with its products of matrices on JAX's device.

    Args:
      model: the network, whose features state the degree of a node.
      observation: one gradient, or one round of local training.
      domain: what is known of the graphs.
      limits: where to give up.

    Raises:
      InputError: features that are all exclusive do not state the degree.
      KnowledgeError: the update is a delta and `local_training` was not granted.
    """
    spec = model.spec
    if spec.degree is None and all(group.exclusive for group in spec.groups):
        raise InputError(
            "degree is None; grain enumerates neighbourhoods, for which it expects the "
            "features to state how many neighbours a node has"
        )
    params, _ = observation.round(0)
    update = mean_gradient(observation, who="grain")
    # On matrices this small BLAS's threads cost more than they save, and wait for each
    # other where several processes share a machine: 5 ms become 2 s.
    with threadpoolctl.threadpool_limits(1, "blas"):
        return Attempt(model, params, update, domain, limits).run()


class Attempt:
    """One run of the attack; keeps what was found should it give up."""

    def __init__(
        self,
        model: GraphModel,
        params: Any,
        update: Any,
        domain: Domain,
        limits: Limits,
    ):
        """Takes what `grain` does, of one round."""
        self.model, self.params, self.update = model, params, update
        self.domain, self.limits = domain, limits
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, Any] = {}
        self.tower: list[Types] = []
        self.deadline = np.inf
        self.partial: Member | None = None
        self.accept = ACCEPT

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def run(self) -> Recovered:
        """From the gradient to the class of graphs."""
        model, spec = self.model, self.model.spec
        try:
            if not all(group.exclusive for group in spec.groups):
                return self._distinct()
            with self.stage("node types"):
                factors = model.factors(self.update, 0)
                nodes, whole = node_types(spec, factors, self.domain.node)
                self.counts["node types"] = nodes.num
            with self.stage("spans"):
                spans = [
                    level_span(model, self.update, level)
                    for level in range(1, model.depth + 1)
                ]
                self.counts["ranks"] = [found.rank for found in (whole, *spans)]
                noise = NOISY * max(found.noise for found in spans)
                self.accept = float(np.clip(noise, ACCEPT, ACCEPT_NOISY))
            return self._solve(nodes, spans)
        except GaveUp as end:
            return Recovered(
                certificate=Certificate.GAVE_UP,
                graph=None,
                graphs=(),
                complete=False,
                nodes_up_to=0,
                distance=np.inf,
                stage=end.stage,
                reason=end.reason,
                seconds=self.seconds,
                counts=self.counts,
                partial=self.partial.graph if self.partial else None,
            )

    def _distinct(self) -> Recovered:
        """The graph of nodes that are all different.

        Which edges there are is unique for almost all weights: with independent
        features, Â relu(Â P) agrees for two adjacencies on an open set of P only if it
        does so for every pattern of active units, which makes them the same.

        Raises:
          GaveUp: the nodes are not found, or no graph of them has the gradient.
        """
        model, spec = self.model, self.model.spec
        with self.stage("node features"):
            nodes = distinct_nodes(model, self.params, self.update)
            self.counts["nodes"] = len(nodes.features)
        best = None
        with self.stage("edges"):
            degrees = spec.degrees(nodes.features) if spec.degree else None
            for start in starts(nodes.features, degrees, MOST_STARTS):
                soft = relaxed_adjacency(
                    model, self.params, nodes.features, nodes.embeddings, start
                )
                graph = self._graph(
                    nodes.features, np.round(soft).astype(np.float32), nodes.labels
                )
                off = distances(model, self.params, self.update, [graph])[0]
                if best is None or off < best.distance:
                    best = Member(graph, float(off), 0.0)
                if off < self.accept:
                    break
        assert best is not None
        if best.distance >= self.accept:
            self.partial = best
            raise GaveUp(
                "edges",
                f"{MOST_STARTS} starts did not lead to edges with the gradient; the "
                f"nearest is {best.distance:.1e} of it away",
            )
        return Recovered(
            certificate=Certificate.UNIQUE,
            graph=best.graph,
            graphs=(best.graph,),
            complete=True,
            nodes_up_to=best.size,
            distance=best.distance,
            stage="done",
            reason="",
            seconds=self.seconds,
            counts=self.counts,
        )

    def _solve(self, nodes: Types, spans: list[Span]) -> Recovered:
        """From the types of nodes on: the first tower that leads to a graph.

        Raises:
          GaveUp: none does; what was wrong with the first.
        """
        options = towers(self.model, self.params, nodes, spans, self.limits.candidates)
        failed = None
        self.deadline = time.monotonic() + self.limits.seconds
        for _ in range(MOST_TOWERS):
            if failed is not None and time.monotonic() > self.deadline:
                break
            try:
                with self.stage("neighbourhoods"):
                    self.tower = next(options)
                    self.counts["types"] = [types.num for types in self.tower]
                with self.stage("multiplicities"):
                    sets = self._sets(spans[-1])
                with self.stage("assembly"):
                    return self._graphs(sets)
            except StopIteration:
                break
            except GaveUp as end:
                failed = failed or end
                self.counts.setdefault("failed", []).append(str(end))
        assert failed is not None
        raise failed

    def _sets(self, whole: Span) -> Iterator[Counts]:
        """Sets of nodes that the readout's gradient allows, the smallest first."""
        last, base = self.tower[-1], base_index(self.tower)
        features = self.tower[0].rows[base]
        fed = np.asarray(self.model.readout_inputs(features, last.rows))
        fed = np.concatenate([fed, np.ones((len(fed), 1))], 1)
        found = system(self.model, self.params, self.update, fed, whole)
        solution, only = shares(found)
        self.counts["shares determined"] = only
        if only:
            return proportional_counts(found, solution, last, self.limits.nodes)
        # A sum over nodes has at most their number as its rank.
        most = self.limits.nodes
        return integer_counts(found, last, whole.rank, most, self.deadline)

    def _graphs(self, sets: Iterator[Counts]) -> Recovered:
        """The class of graphs: of the smallest size, and of others within the limit.

        A mean over nodes does not count them, so covers (graphs with every type k times
        as often) have the same gradient. Copies beside each other are left out.

        Raises:
          GaveUp: no graph has the gradient.
        """
        found: list[Member] = []
        complete, tried, most = True, 0, self.limits.nodes
        try:
            for counts in sets:
                size = len(counts.types)
                left = self.deadline - time.monotonic()
                if size > most:
                    break
                if found and (left < 0 or len(found) >= self.limits.graphs):
                    complete = False
                    break
                tried += 1
                members, whole = self._realised(counts, left)
                complete &= whole
                found += [m for m in members if not _copies(m.graph, found)]
                if any(member.cost < np.inf for member in found):
                    smallest = min(member.size for member in found)
                    most = max(self.limits.class_nodes, smallest)
        except GaveUp:
            if not found:
                raise
            complete = False
        if not found:
            reason = f"none of {tried} sets of nodes makes a graph"
            if self.partial is not None:
                reason = (
                    "graphs of the types were found; the gradient of the nearest is "
                    f"{self.partial.distance:.1e} away"
                )
            raise GaveUp("assembly", reason)
        # What the domain rules out is dropped, unless it rules out everything.
        possible = [m for m in found if m.cost < np.inf] or found
        possible.sort(key=lambda member: member.cost + SIZE_COST * member.size)
        graphs = tuple(member.graph for member in possible)
        only = complete and len(graphs) == 1
        return Recovered(
            certificate=Certificate.UNIQUE if only else Certificate.AMBIGUOUS,
            graph=graphs[0],
            graphs=graphs,
            complete=complete,
            nodes_up_to=most,
            distance=possible[0].distance,
            stage="done",
            reason="",
            seconds=self.seconds,
            counts=self.counts,
        )

    def _realised(self, counts: Counts, seconds: float) -> tuple[list[Member], bool]:
        """Different graphs of these nodes with the gradient, and whether it is all."""
        base = base_index(self.tower)
        features = self.model.spec.denormalise(self.tower[0].rows[base])
        fresh: list[Graph] = []
        whole = True
        until = time.monotonic() + seconds
        for edges in self._edges(counts, until):
            left = until - time.monotonic()
            search = Search(self.tower[-1], counts, seconds=left, edges=edges)
            for adjacency in search.graphs():
                graph = self._graph(features[counts.types], adjacency, counts.labels)
                if any(isomorphic(graph, other) for other in fresh):
                    continue
                fresh.append(graph)
                if len(fresh) >= self.limits.graphs:
                    whole = False
                    break
            whole &= not search.exhausted
            if len(fresh) >= self.limits.graphs:
                break
        off = distances(self.model, self.params, self.update, fresh)
        cost = self.domain.cost or (lambda graph: 0.0)
        members = []
        for graph, distance in zip(fresh, off.tolist(), strict=True):
            if distance < self.accept:
                members.append(Member(graph, distance, cost(graph)))
            elif self.partial is None or distance < self.partial.distance:
                self.partial = Member(graph, distance, np.inf)
        return members, whole

    def _edges(
        self, counts: Counts, until: float
    ) -> list[dict[tuple[int, int], int] | None]:
        """Every possibility for the numbers of edges, or none that is known."""
        model, tower = self.model, self.tower
        known = edge_counts(model, self.params, self.update, tower, counts, until)
        if known is None:
            return [None]
        numbers = known.numbers.astype(int).tolist()
        return [dict(zip(known.pairs, row, strict=True)) for row in numbers]

    def _graph(
        self, features: np.ndarray, adjacency: np.ndarray, labels: np.ndarray | None
    ) -> Graph:
        if labels is None or self.model.spec.task == "graph":
            labels = np.asarray(graph_label(self.update))
        mask = np.ones(len(adjacency), np.float32)
        return Graph(features, adjacency, mask, labels.astype(np.int32))


class Member(NamedTuple):
    """A graph with the client's gradient."""

    graph: Graph
    distance: float
    """Of its gradient, relative."""
    cost: float
    """What the domain says of it."""

    @property
    def size(self) -> int:
        """Its number of nodes."""
        return len(self.graph.mask)


def _copies(graph: Graph, found: list[Member]) -> bool:
    """Whether it is a smaller graph of the class, several times."""
    for member in found:
        times, rest = divmod(len(graph.mask), member.size)
        if rest or times < 2:
            continue
        small = member.graph
        copied = Graph(
            np.tile(small.features, (times, 1)),
            np.kron(np.eye(times, dtype=np.float32), small.adjacency),
            np.tile(small.mask, times),
            graph.labels,
        )
        if isomorphic(graph, copied):
            return True
    return False
