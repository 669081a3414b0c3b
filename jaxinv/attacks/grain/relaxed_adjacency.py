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
import scipy.optimize

from jaxinv.attacks.grain.embedding import bucket
from jaxinv.graph import Graph, padded
from jaxinv.models.graph_networks.base import GraphModel

MOST_STEPS = 3000
SMALLEST = 8


def relaxed_adjacency(
    model: GraphModel,
    params: Any,
    features: np.ndarray,
    embeddings: np.ndarray,
    start: np.ndarray,
) -> np.ndarray:
    """`[n, n]` between 0 and 1, from one start.

    Args:
      model: the network, whose `levels` are smooth in the adjacency.
      params: its weights.
      features: `[n, F]`.
      embeddings: `[n, D]`, of the last level.
      start: `[n, n]`, symmetric.
    """
    num = len(features)
    if num == 1:
        return np.zeros((1, 1))
    size = bucket(num, SMALLEST)
    blank = np.zeros((num, num), np.float32)
    ones = np.ones(num, np.float32)
    frame = padded(Graph(features, blank, ones, np.int32(0)), size)
    goal = np.pad(embeddings, ((0, size - num), (0, 0)))
    upper = np.triu_indices(num, 1)
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

        def value(edges: np.ndarray) -> tuple[float, np.ndarray]:
            whole = np.zeros((size, size))
            whole[upper] = edges
            total, slope = program(wide, frame, goal, known, whole + whole.T)
            slope = np.asarray(slope)
            return float(total), (slope + slope.T)[upper]

        answer = scipy.optimize.minimize(
            value,
            start[upper],
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, 1)] * len(upper[0]),
            options={
                "maxiter": MOST_STEPS,
                "maxfun": 2 * MOST_STEPS,
                "ftol": 1e-15,
                "gtol": 1e-12,
            },
        )
    found = np.zeros((num, num))
    found[upper] = answer.x
    return found + found.T


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


def starts(features: np.ndarray, degrees: np.ndarray | None, num: int):
    """Symmetric matrices to begin with: the expectation by degrees, then random."""
    size = len(features)
    if degrees is not None and degrees.sum():
        first = np.minimum(np.outer(degrees, degrees) / degrees.sum(), 1.0)
    else:
        first = np.full((size, size), 0.1)
    yield first
    rng = np.random.default_rng(0)
    for _ in range(num - 1):
        noise = rng.uniform(0, 1, (size, size)) * 2 * first
        yield np.minimum(np.triu(noise, 1) + np.triu(noise, 1).T, 1.0)
