"""The simulated clients: each trains on one graph and sends its update, once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxinv.fedavg import FedAvg
from jaxinv.graph import Graph, padded
from jaxinv.local_training import LocalTraining
from jaxinv.models.graph_networks.base import GraphModel
from jaxinv.observation import Observation, observe

_STEP = 16
"""Graphs are padded to multiples of it, so that few gradients are compiled."""


class Clients:
    """Makes the updates of graphs, as they arrive at the server."""

    def __init__(
        self,
        model: GraphModel,
        *,
        noise: float,
        float16: bool,
        local: LocalTraining | None = None,
    ) -> None:
        """Takes what is the same for all graphs.

        Args:
          model: what is trained.
          noise: share, of `arrived`.
          float16: whether updates are rounded, of `arrived`.
          local: how they train; None is one gradient each.
        """
        self._update = jax.jit(_update_of(model, local))
        self._arrived = jax.jit(
            lambda key, update: arrived(key, update, noise=noise, float16=float16)
        )

    def __call__(self, key: jax.Array, params: Any, graph: Graph) -> Any:
        """One client's update; the key is of the noise, consumed."""
        size = -(-graph.num_nodes // _STEP) * _STEP
        return self._arrived(key, self._update(params, padded(graph, size)))


def observed(
    model: GraphModel, params: Any, update: Any, local: LocalTraining | None
) -> Observation:
    """What the server has of one client, who trained in a way that it knows.

    Raises:
      InputError: the update is not finite.
    """
    return observe(
        params,
        update,
        num_examples=1,
        spec=model.spec,
        sent="gradient" if local is None else "delta",
        local_training=local,
    )


def _update_of(model: GraphModel, local: LocalTraining | None):
    """`(params, graph) -> update`: a gradient, or how the weights moved."""
    if local is None:
        return jax.grad(model.loss)
    train = FedAvg(model.batch_loss, local)

    def moved(params: Any, graph: Graph) -> Any:
        alone = jax.tree.map(lambda leaf: leaf[None], graph)
        return train(jax.random.key(0), params, alone)  # its order draws nothing

    return moved


def arrived(key: jax.Array, update: Any, *, noise: float, float16: bool) -> Any:
    """An update after its way to the server; pure.

    Args:
      key: of the noise, consumed.
      update: a gradient, or how weights moved.
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
