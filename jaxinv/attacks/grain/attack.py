"""GRAIN: the client's whole graph from one gradient, exactly, with a certificate.

Drencheva, Petrov, Baader, Dimitrov and Vechev, "GRAIN: Exact Graph Reconstruction from
Gradients", ICLR 2025, arXiv 2503.01838: rows of features, then neighbourhoods of
growing depth, are tested for membership in the span of a layer's gradient. What follows
is ours: how many nodes there are of each type solves a linear system (the readout's
gradient), and the graphs are the simple graphs that match all half-edges, all of them.
"""

from __future__ import annotations

import time

import jax
import numpy as np
import threadpoolctl

from jaxinv.attacks.grain.attempt import Attempt
from jaxinv.attacks.grain.distinct.graph import distinct_graph
from jaxinv.attacks.grain.graph_class import graph_class, node_sets
from jaxinv.attacks.grain.node_types import node_types
from jaxinv.attacks.grain.outcome import LIMITS, GaveUp, Limits, Recovered
from jaxinv.attacks.grain.tower import level_span, towers
from jaxinv.attacks.grain.types import Types
from jaxinv.attacks.span import Span
from jaxinv.errors import InputError
from jaxinv.graph import ANY, Domain
from jaxinv.models.graph_networks.base import GraphModel, check_params
from jaxinv.observation import Observation, mean_gradient

FLOORS = (0.0, 1e-6, 1e-5, 1e-4)
"""Of the spectra of several local steps, whose drift is above the rounding."""
MOST_TOWERS = 12
"""Tried, should the first not lead to a graph."""


def grain(
    model: GraphModel,
    observation: Observation,
    *,
    domain: Domain = ANY,
    limits: Limits = LIMITS,
) -> Recovered:
    """Recovers the graph behind one gradient, or one round of local training on it.

    A mean of several local steps is exact where their drift is small, see `drift`; a
    graph is only returned if training on it sends what the client sent.

    Runs on the host, with its products of matrices on JAX's device.

    Args:
      model: the network, whose features state the degree of a node.
      observation: one gradient, or one round of local training of a known kind.
      domain: what is known of the graphs.
      limits: where to give up.

    Raises:
      InputError: features that are all exclusive do not state the degree, the
        observation is not of this model, or the step size is nearly zero.
      KnowledgeError: the update is a delta and `local_training` was not granted.
    """
    spec = model.spec
    if spec.degree is None and all(group.exclusive for group in spec.groups):
        raise InputError(
            "degree is None; grain enumerates neighbourhoods, for which it expects the "
            "features to state how many neighbours a node has"
        )
    if not isinstance(limits, Limits):
        raise InputError(f"limits is {limits!r}; expected Limits")
    params, _ = observation.round(0)
    check_params(model, params)
    update = mean_gradient(observation, who="grain")
    local = observation.known.local_training
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(update)):
        assert local is not None  # for what was observed is finite
        raise InputError(
            f"local_training has learning_rate {local.learning_rate!r}; expected one "
            "that divides the update to finite numbers"
        )
    num_nodes = observation.known.num_nodes
    attempt = Attempt(model, params, update, domain, limits, local, num_nodes)
    # On matrices this small BLAS's threads cost more than they save, and wait for each
    # other where several processes share a machine: 5 ms become 2 s.
    with threadpoolctl.threadpool_limits(1, "blas"):
        try:
            if all(group.exclusive for group in spec.groups):
                return _typed_graph(attempt)
            return distinct_graph(attempt)
        except GaveUp as end:
            return attempt.gave_up(end)


def _typed_graph(attempt: Attempt) -> Recovered:
    """From the gradient to the class of graphs, by types of nodes.

    Raises:
      GaveUp: no tower of types leads to a graph.
    """
    model, update = attempt.model, attempt.update
    with attempt.stage("node types"):
        factors = model.factors(update, 0)
        nodes, whole = node_types(model.spec, factors, attempt.domain.node)
        attempt.counts["node types"] = nodes.num
    with attempt.stage("spans"):
        levels = range(1, model.depth + 1)
        spans = [level_span(model, update, level) for level in levels]
        attempt.counts["ranks"] = [found.rank for found in (whole, *spans)]
        attempt.tolerate(max(found.noise for found in spans))
    if attempt.drift is None:
        return _first_tower(attempt, nodes, spans)
    return _of_local_steps(attempt, nodes, spans)


def _of_local_steps(attempt: Attempt, nodes: Types, spans: list[Span]) -> Recovered:
    """The class of graphs, with more and more of the spectra called drift.

    Raises:
      GaveUp: no floor leads to one; what was wrong with the first.
    """
    until, failed = np.inf, None
    for floor in FLOORS:
        if time.monotonic() > until:
            break
        try:
            return _first_tower(attempt, nodes, [one.above(floor) for one in spans])
        except GaveUp as end:
            if failed is None:
                failed, until = end, time.monotonic() + attempt.limits.seconds
    assert failed is not None
    raise failed


def _first_tower(attempt: Attempt, nodes: Types, spans: list[Span]) -> Recovered:
    """The class of graphs of the first tower that leads to one.

    Raises:
      GaveUp: none does; what was wrong with the first.
    """
    options = towers(
        attempt.model, attempt.params, nodes, spans, attempt.limits.candidates
    )
    failed = None
    attempt.deadline = np.inf
    for _ in range(MOST_TOWERS):
        if time.monotonic() > attempt.deadline:
            break
        try:
            with attempt.stage("neighbourhoods"):
                tower = next(options)
                attempt.counts["types"] = [types.num for types in tower]
                if failed is None:
                    attempt.deadline = time.monotonic() + attempt.limits.seconds
            with attempt.stage("multiplicities"):
                sets = node_sets(attempt, tower, spans[-1])
            with attempt.stage("assembly"):
                return graph_class(attempt, tower, sets)
        except StopIteration:
            break
        except GaveUp as end:
            failed = failed or end
            said = attempt.counts.setdefault("failed", [])
            if str(end) not in said:
                said.append(str(end))
    assert failed is not None
    raise failed
