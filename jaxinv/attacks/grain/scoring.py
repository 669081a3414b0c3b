"""How far the gradients of candidate graphs are from the client's, in batches."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.attacks.grain.embedding import bucket
from jaxinv.fedavg import FedAvg
from jaxinv.graph import Graph, padded
from jaxinv.local_training import LocalTraining
from jaxinv.models.graph_networks.base import GraphModel

AT_ONCE = 8
"""Graphs in one call; lists are padded to it."""
SMALLEST = 8
"""Nodes a graph is padded to at least, then powers of two."""


def distances(
    model: GraphModel,
    params: Any,
    update: Any,
    graphs: Sequence[Graph],
    local: LocalTraining | None = None,
) -> np.ndarray:
    """`[G]`, norm of the difference of the gradients over that of the client's.

    Computed in float64, so that what is left is the client's own rounding.

    Args:
      model: the network.
      params: what the client was sent.
      update: its gradient, or the mean of those of its steps.
      graphs: the candidates.
      local: how the client trained; each candidate is trained on in the same way.
    """
    if not graphs:
        return np.zeros(0)
    size = bucket(max(graph.num_nodes for graph in graphs), SMALLEST)
    found = []
    with jax.enable_x64(True):
        wide, seen = jax.tree.map(
            lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), (params, update)
        )
        for start in range(0, len(graphs), AT_ONCE):
            part = [padded(g, size) for g in graphs[start : start + AT_ONCE]]
            whole = part + part[:1] * (AT_ONCE - len(part))
            stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *whole)
            off = _distances(model, local)(wide, seen, stacked)
            found.append(np.asarray(off)[: len(part)])
    return np.concatenate(found)


@functools.lru_cache(maxsize=16)
def _distances(model: GraphModel, local: LocalTraining | None):
    def gradient_of(params: Any, graph: Graph) -> Any:
        if local is None:
            return jax.grad(model.loss)(params, graph)
        key, batch = jax.random.key(0), jax.tree.map(lambda leaf: leaf[None], graph)
        delta = FedAvg(model.batch_loss, local)(key, params, batch)
        travel = local.travel(1)
        return jax.tree.map(lambda leaf: -leaf / travel, delta)

    def one(params: Any, update: Any, graph: Graph) -> jax.Array:
        gradient = gradient_of(params, graph)
        pairs = list(zip(*map(jax.tree.leaves, (gradient, update)), strict=True))
        off = sum(jnp.sum((a - b) ** 2) for a, b in pairs)
        size = sum(jnp.sum(b**2) for _, b in pairs)
        return jnp.sqrt(off / size)

    # One after the other: a graph's gradient fills the machine, and the programs of
    # batched small products take longer to compile.
    def every(params: Any, update: Any, graphs: Graph) -> jax.Array:
        return jax.lax.map(lambda graph: one(params, update, graph), graphs)

    return jax.jit(every)
