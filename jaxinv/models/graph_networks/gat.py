"""The graph attention network that GRAIN attacks.

Velickovic et al., ICLR 2018 (arXiv 1710.10903) with skip projections, as in Drencheva
et al., "GRAIN: Exact Graph Reconstruction from Gradients", ICLR 2025, arXiv 2503.01838.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.graph import Graph, GraphSpec
from jaxinv.models.graph_networks.base import (
    Factor,
    GraphModel,
    apply_readout,
    binary_cross_entropy,
    check_network,
    readout_factor,
    readout_layers,
)
from jaxinv.options import check_positive

SLOPE = 0.2
"""Of the LeakyReLU on the attention scores."""


class Message(NamedTuple):
    """What a node gives to attention: `[..., heads, D]` and `[..., heads]`."""

    value: jax.Array
    """Projected input."""
    skip: jax.Array
    """Projected input that goes round the attention, to the node itself."""
    source: jax.Array
    """Its half of the score where it attends."""
    target: jax.Array
    """Its half of the score where it is attended to."""


def gat(
    spec: GraphSpec,
    *,
    depth: int = 2,
    width: int = 300,
    heads: int = 2,
    readout: Sequence[int] = (300, 300),
) -> GraphModel:
    """Additive attention over a node and its neighbours, with skip projections.

    Layers before the last put their heads side by side and end in ELU; the last takes
    the heads' mean and has no activation. The readout sees the last level alone, with
    ReLU between its layers.

    Args:
      spec: of the graphs.
      depth: L, how many layers.
      width: units of one head.
      heads: of each layer.
      readout: hidden units of the readout.

    Raises:
      InputError: an option is out of range.
    """
    check_network(spec, depth, width, "relu", readout)
    check_positive("heads", heads)
    sizes = [spec.num_features] + [width * heads] * (depth - 1)

    def init(key: jax.Array) -> dict[str, Any]:
        *keys, key_readout = jax.random.split(key, depth + 1)
        xavier = jax.nn.initializers.glorot_uniform()

        def layer(key: jax.Array, size: int, last: bool) -> dict[str, jax.Array]:
            a, b, c, d = jax.random.split(key, 4)
            return {
                "kernel": xavier(a, (size, heads * width)),
                "skip": xavier(b, (size, heads * width)),
                "source": xavier(c, (heads, width)),
                "target": xavier(d, (heads, width)),
                "bias": jnp.zeros(width if last else heads * width),
            }

        return {
            "layers": [
                layer(k, size, i == depth - 1)
                for i, (k, size) in enumerate(zip(keys, sizes, strict=True))
            ],
            "readout": readout_layers(key_readout, (width, *readout, spec.num_classes)),
        }

    def finish(params: Any, level: int, x: jax.Array, columns: np.ndarray | None):
        """From `[..., heads, D]` to the level's rows."""
        bias = params["layers"][level - 1]["bias"]
        if level == depth:
            bias = bias if columns is None else bias[columns]
            return x.mean(-2) + bias
        bias = bias.reshape(heads, width)
        bias = bias if columns is None else bias[:, columns]
        x = jax.nn.elu(x + bias)
        return x.reshape(*x.shape[:-2], -1)

    def prepare(
        params: Any,
        level: int,
        inputs: jax.Array,
        degrees: jax.Array | None = None,
        columns: np.ndarray | None = None,
    ) -> Message:
        del degrees
        layer = params["layers"][level - 1]

        def split(kernel: jax.Array) -> jax.Array:
            return (inputs @ kernel).reshape(*inputs.shape[:-1], heads, width)

        value, skip = split(layer["kernel"]), split(layer["skip"])
        source = jnp.sum(value * layer["source"], -1)
        target = jnp.sum(value * layer["target"], -1)
        if columns is not None:
            value, skip = value[..., columns], skip[..., columns]
        return Message(value, skip, source, target)

    def combine(
        params: Any,
        level: int,
        own: Message,
        others: Message,
        present: jax.Array,
        columns: np.ndarray | None,
    ) -> jax.Array:
        def score(target: jax.Array, source: jax.Array) -> jax.Array:
            return jax.nn.leaky_relu(source + target, SLOPE)

        around = score(others.target, own.source[..., None, :])
        around = jnp.where(present[..., None] > 0, around, -jnp.inf)
        mine = score(own.target, own.source)[..., None, :]
        weights = jax.nn.softmax(jnp.concatenate([mine, around], -2), axis=-2)
        mixed = weights[..., 0, :, None] * own.value
        mixed = mixed + jnp.einsum(
            "...kh,...khd->...hd", weights[..., 1:, :], others.value
        )
        return finish(params, level, mixed + own.skip, columns)

    def coordinates(level: int, columns: np.ndarray) -> np.ndarray:
        if level == depth:
            return columns
        return np.concatenate([head * width + columns for head in range(heads)])

    def levels(params: Any, graph: Graph) -> list[jax.Array]:
        dtype = params["layers"][0]["kernel"].dtype
        mask = jnp.asarray(graph.mask, dtype)
        # A padded node attends to itself, so that no softmax is over nothing.
        loops = jnp.eye(len(mask), dtype=dtype)
        seen = (jnp.asarray(graph.adjacency, dtype) + loops)[..., None] > 0
        h = spec.normalise(jnp.asarray(graph.features, dtype)) * mask[:, None]
        found = [h]
        for level in range(1, depth + 1):
            one = prepare(params, level, h)
            scores = jax.nn.leaky_relu(one.source[:, None] + one.target[None], SLOPE)
            weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=1)
            mixed = jnp.einsum("ijh,jhd->ihd", weights, one.value)
            h = finish(params, level, mixed + one.skip, None)
            found.append(h)
        return found

    def readout_inputs(features: jax.Array, last: jax.Array) -> jax.Array:
        del features
        return last

    def read(params: Any, inputs: jax.Array) -> jax.Array:
        return apply_readout(params["readout"], inputs, "relu")

    def loss(params: Any, graph: Graph) -> jax.Array:
        last = levels(params, graph)[-1]
        return binary_cross_entropy(read(params, last), graph, spec)

    def factors(update: Any, level: int) -> list[Factor]:
        if level == depth:
            return [readout_factor(update)]
        layer = update["layers"][level]
        skip, bias = layer["skip"], layer["bias"]
        if level == depth - 1:
            # Heads are averaged: each feels the same, a part of what the bias feels.
            skip = heads * skip[:, :width]
        rows = jnp.concatenate([skip, bias[None]])
        return [Factor(layer["kernel"], False), Factor(rows, True)]

    return GraphModel(
        init=init,
        loss=loss,
        levels=levels,
        prepare=prepare,
        combine=combine,
        coordinates=coordinates,
        factors=factors,
        readout=read,
        readout_activation="relu",
        readout_inputs=readout_inputs,
        spec=spec,
        depth=depth,
        width=width,
        name="gat",
    )
