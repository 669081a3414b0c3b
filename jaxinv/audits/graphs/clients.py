"""The simulated clients: each sends the gradient of one graph, once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxinv.graph import Graph, padded
from jaxinv.models.graph_networks.base import GraphModel

_STEP = 16
"""Graphs are padded to multiples of it, so that few gradients are compiled."""


class Clients:
    """Makes the gradients of graphs, as they arrive at the server."""

    def __init__(self, model: GraphModel, *, noise: float, float16: bool) -> None:
        """Takes what is the same for all graphs.

        Args:
          model: what is trained.
          noise: share, of `arrived`.
          float16: whether gradients are rounded, of `arrived`.
        """
        self._gradient = jax.jit(jax.grad(model.loss))
        self._arrived = jax.jit(
            lambda key, update: arrived(key, update, noise=noise, float16=float16)
        )

    def __call__(self, key: jax.Array, params: Any, graph: Graph) -> Any:
        """One client's gradient; the key is of the noise, consumed."""
        size = -(-graph.num_nodes // _STEP) * _STEP
        return self._arrived(key, self._gradient(params, padded(graph, size)))


def arrived(key: jax.Array, update: Any, *, noise: float, float16: bool) -> Any:
    """A gradient after its way to the server; pure.

    Args:
      key: of the noise, consumed.
      update: the gradient.
      noise: standard deviation of Gaussian noise on every entry, as a share of the
        root mean square of its leaf.
      float16: whether it is rounded to it, after the noise.
    """
    if noise:
        leaves, structure = jax.tree.flatten(update)
        keys = jax.random.split(key, len(leaves))
        noisy = [
            x
            + noise * jnp.sqrt(jnp.mean(x**2)) * jax.random.normal(k, x.shape, x.dtype)
            for k, x in zip(keys, leaves, strict=True)
        ]
        update = jax.tree.unflatten(structure, noisy)
    if float16:
        update = jax.tree.map(lambda x: x.astype(jnp.float16).astype(x.dtype), update)
    return update
