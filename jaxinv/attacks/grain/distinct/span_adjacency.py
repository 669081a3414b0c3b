"""Edges between known nodes whose embeddings are not known, from spans alone.

What every level makes of the nodes is in the span of what the next layer's gradient
saw; with other edges it is not. The share outside is smooth in edges between 0 and 1,
as soft neighbours of a mean or of an attention, and L-BFGS finds where it ends. (Ours.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.attacks.grain.distinct.edge_descent import descended
from jaxinv.attacks.grain.embedding import bucket
from jaxinv.attacks.span import Span
from jaxinv.graph import Graph
from jaxinv.models.graph_networks.base import GraphModel

MOST_STEPS = 1000
SMALLEST = 8
SLOPE = 0.2
"""Of the leaky ReLU of an attention."""


def span_adjacency(
    model: GraphModel, params: Any, features: np.ndarray, spans: Sequence[Span]
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A search for edges: `(start [n, n], free [n, n]) -> [n, n]` between 0 and 1.

    Args:
      model: the network.
      params: its weights.
      features: `[n, F]`.
      spans: of levels 1 to `depth`.
    """
    num, spec = len(features), model.spec
    size = bucket(num, SMALLEST)
    extra = (0, size - num)
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    rows = np.pad(spec.normalise(features.astype(np.float64)), (extra, (0, 0)))
    mask = np.pad(np.ones(num), extra)
    # As wide as the bucket, so that no program is for one rank alone.
    bases = [np.pad(one.basis, ((0, 0), (0, size - one.rank))) for one in spans]
    known = np.full(size, -1.0)
    if spec.degree:
        known[:num] = spec.degrees(features)

    def search(start: np.ndarray, free: np.ndarray) -> np.ndarray:
        def objective(adjacency: np.ndarray) -> tuple[jax.Array, jax.Array]:
            return _objective(model)(adjacency, wide, rows, mask, bases, known)

        with jax.enable_x64(True):
            return descended(objective, start, free, size, MOST_STEPS)

    return search


@functools.lru_cache(maxsize=16)
def _objective(model: GraphModel):
    def total(adjacency, params, rows, mask, bases, known):
        levels = _soft_levels(model, params, rows, adjacency, mask)
        outside = 0.0
        for level, (one, basis) in enumerate(zip(levels, bases, strict=True), 1):
            seen = one
            if level == model.depth:
                seen = jnp.concatenate([one, jnp.ones((len(one), 1))], 1)
            far = seen - (seen @ basis) @ basis.T
            share = jnp.sum(far**2, 1) / (jnp.sum(seen**2, 1) + 1e-12)
            outside += mask @ share
        wrong = jnp.where(known >= 0, adjacency.sum(1) - known, 0.0)
        return (outside + jnp.sum(wrong**2)) / mask.sum()

    return jax.jit(jax.value_and_grad(total))


def _soft_levels(
    model: GraphModel, params: Any, rows: jax.Array, adjacency: jax.Array, mask: Any
) -> list[jax.Array]:
    """Levels 1 to `depth` of edges between 0 and 1."""
    if model.name == "gcn":
        size = len(rows)
        raw = rows * np.where(np.asarray(model.spec.std) > 0, model.spec.std, 0)
        raw = raw + np.asarray(model.spec.mean) * mask[:, None]
        graph = Graph(raw, adjacency, mask, np.zeros(size, np.int32))
        return model.levels(params, graph)[1:]
    levels, degrees = [], adjacency.sum(1)
    for level in range(1, model.depth + 1):
        own = model.prepare(params, level, rows, degrees, None)
        scores = jax.nn.leaky_relu(own.source[:, None] + own.target[None], SLOPE)
        weights = jnp.exp(scores - scores.max(1, keepdims=True))
        weights = weights * (adjacency + jnp.eye(len(rows)))[..., None]
        weights = weights / weights.sum(1, keepdims=True)
        mixed = own._replace(value=jnp.einsum("ijh,jhd->ihd", weights, own.value))
        # A node that has no neighbours but has the mixture itself.
        nobody = jax.tree.map(lambda leaf: leaf[:, None], own)
        absent = jnp.zeros((len(rows), 1))
        rows = model.combine(params, level, mixed, nobody, absent, None)
        levels.append(rows)
    return levels
