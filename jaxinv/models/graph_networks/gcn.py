"""The graph convolutional network that GRAIN attacks.

Kipf and Welling, ICLR 2017 (arXiv 1609.02907) with the readout of Drencheva et al.,
"GRAIN: Exact Graph Reconstruction from Gradients", ICLR 2025, arXiv 2503.01838: every
node's features and last embedding side by side through dense layers, then the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.errors import InputError
from jaxinv.graph import Graph, GraphSpec
from jaxinv.models.graph_networks.base import (
    ACTIVATIONS,
    Factor,
    GraphModel,
    apply_readout,
    binary_cross_entropy,
    check_network,
    readout_factor,
    readout_layers,
)


class Message(NamedTuple):
    """What a node gives to its neighbours and itself."""

    value: jax.Array
    """`[..., D]`, transformed and scaled by the node's own degree."""
    scale: jax.Array
    """`[...]`, 1 / sqrt(degree + 1)."""


def gcn(
    spec: GraphSpec,
    *,
    depth: int = 2,
    width: int = 300,
    activation: str = "relu",
    readout: Sequence[int] = (300, 64),
    concat: bool = True,
) -> GraphModel:
    """Layers H = act(A' H W), the last without activation.

    A' is the adjacency with self loops, divided by the root of both ends' row sums.

    Args:
      spec: of the graphs.
      depth: L, how many layers.
      width: units of each.
      activation: between layers and in the readout, one of `ACTIVATIONS`.
      readout: hidden units of the readout.
      concat: whether the readout sees the features beside the last embedding.

    Raises:
      InputError: an option is out of range.
    """
    check_network(spec, depth, width, activation, readout)
    if not isinstance(concat, bool):
        raise InputError(f"concat is {concat!r}; expected true or false")
    act = ACTIVATIONS[activation]
    num_features = spec.num_features
    sizes = (num_features, *[width] * depth)

    def init(key: jax.Array) -> dict[str, Any]:
        *keys, key_readout = jax.random.split(key, depth + 1)
        xavier = jax.nn.initializers.glorot_uniform()
        first = width + num_features * concat
        return {
            "layers": [
                {"kernel": xavier(k, (sizes[i], sizes[i + 1]))}
                for i, k in enumerate(keys)
            ],
            "readout": readout_layers(key_readout, (first, *readout, spec.num_classes)),
        }

    def activated(level: int, x: jax.Array) -> jax.Array:
        return act(x) if level < depth else x

    def levels(params: Any, graph: Graph) -> list[jax.Array]:
        dtype = params["layers"][0]["kernel"].dtype
        adjacency = jnp.asarray(graph.adjacency, dtype)
        mask = jnp.asarray(graph.mask, dtype)
        scale = jax.lax.rsqrt(adjacency.sum(1) + 1)
        spread = (adjacency + jnp.diag(mask)) * scale[:, None] * scale
        h = spec.normalise(jnp.asarray(graph.features, dtype)) * mask[:, None]
        found = [h]
        for level, layer in enumerate(params["layers"], 1):
            h = activated(level, spread @ (h @ layer["kernel"]))
            found.append(h)
        return found

    def read(params: Any, inputs: jax.Array) -> jax.Array:
        return apply_readout(params["readout"], inputs, activation)

    def readout_inputs(features: jax.Array, last: jax.Array) -> jax.Array:
        return jnp.concatenate([features, last], -1) if concat else last

    def loss(params: Any, graph: Graph) -> jax.Array:
        features, *_, last = levels(params, graph)
        return binary_cross_entropy(
            read(params, readout_inputs(features, last)), graph, spec
        )

    def prepare(
        params: Any,
        level: int,
        inputs: jax.Array,
        degrees: jax.Array,
        columns: np.ndarray | None,
    ) -> Message:
        kernel = params["layers"][level - 1]["kernel"]
        kernel = kernel if columns is None else kernel[:, columns]
        scale = jax.lax.rsqrt(degrees.astype(inputs.dtype) + 1)
        return Message(inputs @ kernel * scale[:, None], scale)

    def combine(
        params: Any,
        level: int,
        own: Message,
        others: Message,
        present: jax.Array,
        columns: np.ndarray | None,
    ) -> jax.Array:
        del params, columns
        # A sum, not a product of matrices: gathering the values fuses into it.
        around = jnp.sum(others.value * present[..., None], -2)
        return activated(level, own.scale[..., None] * (own.value + around))

    def factors(update: Any, level: int) -> list[Factor]:
        if level == depth:
            return [readout_factor(update)]
        found = [Factor(update["layers"][level]["kernel"], False)]
        if level == 0 and concat:
            whole = readout_factor(update).matrix
            rows = jnp.concatenate([whole[:num_features], whole[-1:]])
            found.append(Factor(rows, True))
        return found

    return GraphModel(
        init=init,
        loss=loss,
        levels=levels,
        prepare=prepare,
        combine=combine,
        coordinates=lambda level, columns: columns,
        factors=factors,
        readout=read,
        readout_activation=activation,
        readout_inputs=readout_inputs,
        spec=spec,
        depth=depth,
        width=width,
        name="gcn",
    )
