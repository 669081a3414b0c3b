"""One run of the attack: what it works on, and what it found on its way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from jaxinv.attacks.grain.drift import drift_of
from jaxinv.attacks.grain.multiplicities import graph_label
from jaxinv.attacks.grain.outcome import (
    Certificate,
    GaveUp,
    Limits,
    Recovered,
    gave_up,
)
from jaxinv.attacks.grain.scoring import distances
from jaxinv.graph import Domain, Graph
from jaxinv.local_training import LocalTraining
from jaxinv.models.graph_networks.base import GraphModel

ACCEPT = 1e-5
"""Relative distance of gradients up to which a graph is said to have the client's; the
rounding of a float32 gradient is some 1e-7, another graph's distance some 1e-2."""
NOISY = 20.0
"""A gradient's distance over the largest singular value of its noise."""
ACCEPT_NOISY = 1e-4
"""The same at most, where the spectrum shows more rounding than float32 has."""


class Member(NamedTuple):
    """A graph and how far its gradient is from the client's."""

    graph: Graph
    distance: float
    """Of its gradient, relative."""
    cost: float
    """What the domain says of it."""

    @property
    def size(self) -> int:
        """Its number of nodes."""
        return len(self.graph.mask)


class Attempt:
    """One run of the attack; keeps what was found should it give up.

    Attributes:
      model, update, domain, limits: what it works on.
      sent: the weights that the client was sent.
      local: how it trained; None for one gradient.
      drift: of the weights in its steps; None for one step.
      params: the weights of which the update is the gradient, or nearly.
      accept: distance up to which a graph has the client's gradient.
      seconds: by stage.
      counts: ranks, candidates and types by stage.
      least_nodes: of the graph, the largest number of nodes where that is granted.
      deadline: of the search, on the monotonic clock.
      partial: the nearest graph that is not the client's.
    """

    def __init__(
        self,
        model: GraphModel,
        params: Any,
        update: Any,
        domain: Domain,
        limits: Limits,
        local: LocalTraining | None = None,
        num_nodes: int | None = None,
    ):
        """Takes what `grain` does, of one round, the update as a gradient."""
        self.model, self.sent, self.update, self.local = model, params, update, local
        self.drift = drift_of(params, update, local)
        self.params = params if self.drift is None else self.drift.middle
        if num_nodes is not None:
            limits = limits._replace(nodes=num_nodes)
        self.domain, self.limits, self.least_nodes = domain, limits, num_nodes or 1
        self.accept = ACCEPT
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, Any] = {}
        self.deadline = np.inf
        self.partial: Member | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def tolerate(self, noise: float) -> None:
        """Accepts what noise of this largest singular value may do to a gradient."""
        self.accept = float(np.clip(NOISY * noise, ACCEPT, ACCEPT_NOISY))

    def graph(
        self, features: np.ndarray, adjacency: np.ndarray, labels: np.ndarray | None
    ) -> Graph:
        """A graph with the label that the gradient states, or its nodes' own."""
        if labels is None or self.model.spec.task == "graph":
            labels = np.asarray(graph_label(self.update))
        mask = np.ones(len(adjacency), np.float32)
        return Graph(features, adjacency, mask, labels.astype(np.int32))

    def members(self, graphs: list[Graph], *, alike: bool = False) -> list[Member]:
        """Those that have the client's gradient; the nearest other is kept.

        Args:
          graphs: candidates.
          alike: whether they all have the gradient of the first.
        """
        some = graphs[:1] if alike else graphs
        off = distances(self.model, self.sent, self.update, some, self.local)
        off = np.resize(off, len(graphs)) if alike else off
        cost = self.domain.cost or (lambda graph: 0.0)
        found = []
        for graph, distance in zip(graphs, off.tolist(), strict=True):
            if distance < self.accept:
                found.append(Member(graph, distance, cost(graph)))
            elif self.partial is None or distance < self.partial.distance:
                self.partial = Member(graph, distance, np.inf)
        return found

    def recovered(
        self, members: list[Member], *, complete: bool, nodes_up_to: int
    ) -> Recovered:
        """The class, the pick first; unique where it is complete and one graph."""
        only = complete and len(members) == 1
        return Recovered(
            certificate=Certificate.UNIQUE if only else Certificate.AMBIGUOUS,
            graph=members[0].graph,
            graphs=tuple(member.graph for member in members),
            complete=complete,
            nodes_up_to=nodes_up_to,
            distance=members[0].distance,
            stage="done",
            reason="",
            seconds=self.seconds,
            counts=self.counts,
        )

    def gave_up(self, end: GaveUp) -> Recovered:
        """No graph, with the stage, the reason and the nearest graph met."""
        reason = end.reason
        if self.drift is not None and self.local is not None:
            reason = f"of {self.local.shape(1)[0]} local steps: {reason}"
        return gave_up(
            end.stage,
            reason,
            seconds=self.seconds,
            counts=self.counts,
            partial=self.partial.graph if self.partial else None,
        )
