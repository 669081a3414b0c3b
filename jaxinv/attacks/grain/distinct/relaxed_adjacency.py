"""Edges between known nodes: exact from a smooth problem, checked afterwards.

Once every node's slope is known the readout's gradient gives every node's last
embedding. Some 300 numbers a node then hang on n (n - 1) / 2 unknown edges: far more
equations than unknowns, and L-BFGS on edges between 0 and 1 runs into the true zeros
and ones. Degrees need not be small, nor known. (Ours; GRAIN enumerates neighbourhoods,
which many neighbours put out of reach.)
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from jaxinv.attacks.grain.distinct.edge_descent import descended
from jaxinv.attacks.grain.embedding import bucket
from jaxinv.attacks.span import Span
from jaxinv.graph import Graph, padded
from jaxinv.models.graph_networks.base import GraphModel

CERTAIN = 0.1
"""Of the bound of a span: rounding makes 2 thirtieths of it at most."""
MOST_STEPS = 3000
SMALLEST = 8
TINY = 1e-9


def relaxed_adjacency(
    model: GraphModel,
    params: Any,
    features: np.ndarray,
    embeddings: np.ndarray,
    start: np.ndarray,
    free: np.ndarray | None = None,
) -> np.ndarray:
    """`[n, n]` between 0 and 1, from one start.

    Args:
      model: the network, whose `levels` are smooth in the adjacency.
      params: its weights.
      features: `[n, F]`.
      embeddings: `[n, D]`, of the last level.
      start: `[n, n]`, symmetric.
      free: `[n, n]` bool, entries that may move; None for all.
    """
    num = len(features)
    if num == 1:
        return np.zeros((1, 1))
    size = bucket(num, SMALLEST)
    blank = np.zeros((num, num), np.float32)
    ones = np.ones(num, np.float32)
    frame = padded(Graph(features, blank, ones, np.int32(0)), size)
    goal = np.pad(embeddings, ((0, size - num), (0, 0)))
    degrees = model.spec.degrees(features) if model.spec.degree else None
    known = np.pad(
        np.full(num, -1.0) if degrees is None else degrees.astype(np.float64),
        (0, size - num),
        constant_values=-1.0,
    )
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), params)
        goal, known = jnp.asarray(goal), jnp.asarray(known)
        program = _objective(model)

        return descended(
            functools.partial(program, wide, frame, goal, known),
            start,
            np.ones(start.shape, bool) if free is None else free,
            size,
            MOST_STEPS,
        )


@functools.lru_cache(maxsize=16)
def _objective(model: GraphModel):
    def total(
        adjacency: jax.Array,
        params: Any,
        frame: Graph,
        goal: jax.Array,
        known: jax.Array,
    ) -> jax.Array:
        graph = frame._replace(adjacency=adjacency)
        last = model.levels(params, graph)[-1] * graph.mask[:, None]
        off = jnp.sum((last - goal) ** 2) / jnp.sum(goal**2)
        wrong = jnp.where(known >= 0, adjacency.sum(1) - known, 0.0)
        return off + jnp.sum(wrong**2) / graph.mask.sum()

    def both(params, frame, goal, known, adjacency):
        return jax.value_and_grad(total)(adjacency, params, frame, goal, known)

    return jax.jit(both)


def certain_rows(
    model: GraphModel,
    params: Any,
    features: np.ndarray,
    degrees: np.ndarray | None,
    adjacency: np.ndarray,
    whole: Span,
) -> np.ndarray:
    """`[n]` bool, nodes whose neighbours are right: each row is tested by itself.

    What the first level makes of a node and its neighbours is in the span of what the
    second was fed, a node with wrong ones is not. Where rank was lost no row passes.

    Args:
      model: the network.
      params: its weights.
      features: `[n, F]`.
      degrees: `[n]` where known, else those of the adjacency are taken.
      adjacency: `[n, n]` zeros and ones, a guess.
      whole: the span of the first level.
    """
    num = len(features)
    stated = adjacency.sum(1)
    known = stated if degrees is None else degrees
    size = bucket(num, SMALLEST)
    extra = (0, size - num)
    with jax.enable_x64(True):
        rows = _first_level(model)(
            jax.tree.map(lambda x: np.asarray(x, np.float64), params),
            np.pad(model.spec.normalise(features.astype(np.float64)), (extra, (0, 0))),
            np.pad(known.astype(np.float64), extra),
            np.pad(adjacency.astype(np.float64), (extra, extra)),
        )
    return (whole.excess(np.asarray(rows)[:num]) <= CERTAIN) & (stated == known)


@functools.lru_cache(maxsize=16)
def _first_level(model: GraphModel):
    def first(params, rows, degrees, adjacency):
        own = model.prepare(params, 1, rows, degrees, None)
        others = jax.tree.map(lambda leaf: leaf[None], own)
        return model.combine(params, 1, own, others, adjacency, None)

    return jax.jit(first)


def expected(degrees: np.ndarray, adjacency: np.ndarray, free: np.ndarray):
    """`[n, n]` between 0 and 1: entries that may move, as likely as degrees make them.

    Args:
      degrees: `[n]`, what rows should add up to.
      adjacency: `[n, n]`, its entries that may not move.
      free: `[n, n]` bool.
    """
    left = np.maximum(degrees - adjacency.sum(1), 0) + TINY
    free = free & ~np.eye(len(free), dtype=bool)
    eager = np.sqrt(left / np.maximum(free.sum(1), 1))
    for _ in range(30):
        chance = free * np.minimum(np.outer(eager, eager), 1)
        eager *= np.sqrt(left / np.maximum(chance.sum(1), TINY))
    return free * np.minimum(np.outer(eager, eager), 1)


def shaken(chance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Chances with normal noise on their log odds, symmetric."""
    noise = np.triu(rng.normal(size=chance.shape), 1)
    odds = scipy.special.logit(np.clip(chance, TINY, 1 - TINY)) + noise + noise.T
    return np.where(chance > 0, scipy.special.expit(odds), 0.0)
