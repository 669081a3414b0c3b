"""Gradient matching on graphs: what exact recovery is compared with.

DLG (Zhu, Liu and Han, NeurIPS 2019, arXiv 1906.08935) and TabLeak (Vero, Balunović,
Dimitrov and Vechev, ICML 2023, arXiv 2210.01785) as Drencheva et al., "GRAIN: Exact
Graph Reconstruction from Gradients", ICLR 2025, arXiv 2503.01838, put them on graphs:
features, edges and label are relaxed, and descend on the distance of the gradients.
Both are told the number of nodes, and variants of both the edges; GRAIN needs neither.

The published baselines feed the model raw features and the raw adjacency matrix, where
GRAIN normalises both. Here the guess goes through the very model that the client used,
which makes these baselines stronger than the published ones.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.assignment import hungarian_algorithm

from jaxinv import matching
from jaxinv.attacks.base import Attack, Reconstruction, Status, restarts
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.attacks.graph_space import relaxed_graphs, snapped
from jaxinv.attacks.lbfgs import lbfgs
from jaxinv.errors import InputError
from jaxinv.graph import Graph, GraphSpec
from jaxinv.models.graph_networks.base import GraphModel
from jaxinv.objective import ObjectiveFn, objective
from jaxinv.observation import Observation
from jaxinv.options import check_choice, check_positive
from jaxinv.release import gradient

OPTIMIZERS = {
    # As in `jaxinv.attacks.dlg`: thresholds of PyTorch's would end the search early.
    "lbfgs": lambda rate: lbfgs(rate, 100, min_curvature=0.0, min_descent=0.0),
    "adam": optax.adam,
}
"""By name: `(learning_rate) -> optimizer`."""


def graph_dlg(
    model: GraphModel,
    *,
    adjacency: str = "relaxed",
    num_nodes: int | None = None,
    num_steps: int = 2000,
    optimizer: str = "lbfgs",
    learning_rate: float = 0.01,
) -> Attack:
    """DLG on one graph's gradient.

    The batch of the reconstruction is the snapped `Graph`, and the score its squared
    distance of gradients over the update's squared norm: what the attacker has in the
    end, not what led there. `stats`: "relaxed", the graph before that, and "distance",
    its distance in the same unit. Labels are searched for unless they are granted.

    The distance is searched in that unit too, which changes nothing for these
    optimisers but L-BFGS's first step.

    Args:
      model: what the client trains.
      adjacency: "relaxed" searches for the edges, "known" takes the granted ones (the
        variant "+A").
      num_nodes: n; None takes the granted number.
      num_steps: gradient evaluations (published: 2000 iterations of PyTorch's L-BFGS).
      optimizer: a key of `OPTIMIZERS`.
      learning_rate: of it; the default is the published one. With L-BFGS's natural
        1 the first steps saturate every softmax, and nothing moves any more.

    Raises:
      InputError: an option is out of range; at trace, the client sent a weight delta.
      KnowledgeError: at trace, the number of nodes or the edges are needed and not
        granted.
    """
    search, distance = _search(
        model, adjacency, num_nodes, num_steps, optimizer, learning_rate
    )

    def finish(observation: Observation, state: Any) -> Reconstruction:
        found = search.finish(observation, state)
        return _judged(
            observation, found, found.batch, found.score, distance, model.spec
        )

    return search._replace(finish=finish)


def graph_tableak(
    model: GraphModel,
    *,
    adjacency: str = "relaxed",
    num_nodes: int | None = None,
    num_steps: int = 2000,
    optimizer: str = "adam",
    learning_rate: float = 0.1,
    num_members: int = 10,
) -> Attack:
    """TabLeak on one graph's gradient: the median of several searches.

    Every member is a search of `graph_dlg`; see there for what is returned and raised.
    Nodes of the members are matched to those of the best one, since a gradient does not
    tell their order, and the median of their relaxed values is snapped. `stats` has
    "members" too, their "scores" and "statuses".

    Args:
      model: what the client trains.
      adjacency: as in `graph_dlg`.
      num_nodes: as in `graph_dlg`.
      num_steps: gradient evaluations of each member.
      optimizer: a key of `OPTIMIZERS`.
      learning_rate: of it (published: 0.1; of which optimiser is not).
      num_members: of which the median is taken.
    """
    check_positive("num_members", num_members)
    search, distance = _search(
        model, adjacency, num_nodes, num_steps, optimizer, learning_rate
    )
    many = restarts(search, num_members, keep=num_members)

    def finish(observation: Observation, state: Any) -> Reconstruction:
        found = many.finish(observation, state)
        kept = found.stats["kept"]
        graphs = in_order_of_first(kept.batch, model.spec)
        middle = median(graphs, kept.status == Status.OK)
        if adjacency == "known":
            # In the order of the best member, which is that of the granted edges.
            middle = middle._replace(adjacency=observation.known.adjacency)
        # A gradient draws nothing.
        before, _ = distance(jax.random.key(0), observation, middle)
        judged = _judged(observation, found, middle, before, distance, model.spec)
        members = {k: found.stats[k] for k in ("scores", "statuses")}
        stats = {**judged.stats, "members": members}
        return dataclasses.replace(judged, stats=stats)

    return Attack(many.init, many.step, finish, num_steps)


def in_order_of_first(graphs: Graph, spec: GraphSpec) -> Graph:
    """Graphs of equal size with their nodes in the order of the first one's.

    Nodes are matched by the least squared distance of features and neighbours' features
    (Hungarian algorithm). How GRAIN's baseline matches them is not known to us.

    Args:
      graphs: relaxed, leaves `[K, ...]`.
      spec: of the graphs.
    """

    def views(graph: Graph) -> jax.Array:
        around = graph.adjacency @ graph.features
        return jnp.concatenate([graph.features, around], 1)

    first = views(jax.tree.map(lambda leaf: leaf[0], graphs))

    def ordered(graph: Graph) -> Graph:
        costs = jnp.sum((first[:, None] - views(graph)[None]) ** 2, -1)
        # A search that is lost must not hang the algorithm.
        rows, columns = hungarian_algorithm(jnp.nan_to_num(costs))
        order = jnp.zeros(len(costs), jnp.int32).at[rows].set(columns)
        labels = graph.labels
        # Granted ones are in the right order, and the same in all.
        if spec.task == "node" and jnp.issubdtype(labels.dtype, jnp.floating):
            labels = labels[order]
        edges = graph.adjacency[order][:, order]
        return Graph(graph.features[order], edges, graph.mask[order], labels)

    return jax.vmap(ordered)(graphs)


def median(graphs: Graph, sound: jax.Array) -> Graph:
    """Entry by entry, of those graphs `[K, ...]` that are `sound`, `[K]` bool."""

    def middle(leaf: jax.Array) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf[0]  # granted labels
        counted = sound.reshape(-1, *[1] * (leaf.ndim - 1))
        return jnp.nanmedian(jnp.where(counted, leaf, jnp.nan), 0)

    return jax.tree.map(middle, graphs)


def _search(
    model: GraphModel,
    adjacency: str,
    num_nodes: int | None,
    num_steps: int,
    optimizer: str,
    learning_rate: float,
) -> tuple[Attack, ObjectiveFn]:
    """An attack that returns relaxed graphs, and what it minimises."""
    check_choice("optimizer", optimizer, OPTIMIZERS)
    if not isinstance(learning_rate, jax.Array) and not learning_rate > 0:
        raise InputError(f"learning_rate is {learning_rate}; expected above 0")
    squared = matching.squared()

    def relative(guess: Any, observed: Any) -> jax.Array:
        size = squared(observed, jax.tree.map(jnp.zeros_like, observed))
        return squared(guess, observed) / jnp.where(size > 0, size, 1)

    distance = objective(gradient(model.loss), relative)
    space = relaxed_graphs(model.spec, adjacency=adjacency, num_nodes=num_nodes)
    made = OPTIMIZERS[optimizer](learning_rate)
    return gradient_matching(distance, space, made, num_steps), distance


def _judged(
    observation: Observation,
    found: Reconstruction,
    relaxed: Graph,
    before: jax.Array,
    distance: ObjectiveFn,
    spec: GraphSpec,
) -> Reconstruction:
    """What was found, snapped and scored as that."""
    guess = snapped(relaxed, spec)
    score, _ = distance(jax.random.key(0), observation, guess)
    lost = (found.status == Status.DIVERGED) | ~jnp.isfinite(score)
    return dataclasses.replace(
        found,
        batch=guess,
        score=jnp.where(lost, jnp.inf, score),
        status=jnp.where(lost, Status.DIVERGED, found.status).astype(jnp.int32),
        stats={"relaxed": relaxed, "distance": before},
    )
