"""The learned inverter: a network from numbers of a gradient to the image behind it.

After Wu et al., "Learning to Invert: Simple Adaptive Attacks for Gradient Inversion in
Federated Learning", UAI 2023, arXiv 2210.10880: an attacker who holds images of the
same kind makes gradients of them by himself and learns the way back. Here it reads a
fixed random subset of the gradient and the whole output layer. The networks, and how
their input is scaled, are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from jaxinv.defenses.learned_perturbation.networks import DOWN, InverterNet
from jaxinv.errors import InputError
from jaxinv.layers import find_head
from jaxinv.options import check_positive
from jaxinv.release import trained
from jaxinv.target import Params, Spec

FLOOR = 1e-30
"""Added to a mean square that something is divided by the root of."""


@dataclass(frozen=True)
class InverterDesign:
    """What an inverter is made of. Hashable, so static.

    Attributes:
      spec: of the images.
      hidden: units of the dense layers.
      width: channels of the decoder.
    """

    spec: Spec
    hidden: int = 128
    width: int = 16

    def __post_init__(self) -> None:
        shape = self.spec.shape
        if len(shape) != 3 or any(side % DOWN for side in shape[:2]):
            raise InputError(
                f"shape is {shape!r}; an inverter expects (H, W, C) with sides of a "
                f"multiple of {DOWN}"
            )
        check_positive("hidden", self.hidden)
        check_positive("width", self.width)

    @property
    def network(self) -> InverterNet:
        """Of this design."""
        return InverterNet(self.hidden, self.width, self.spec.shape)


@flax.struct.dataclass
class Inverter:
    """An inverter, trained or fresh."""

    params: Any
    """Of the network; what psi stands for."""
    coordinates: jax.Array
    """`[D]` int32, which numbers of the flattened update it reads."""
    spread: jax.Array
    """`[D]`, how large they are from gradient to gradient, the update's size aside."""
    mean: jax.Array
    """`[H, W, C]` pixels, the mean image: where a network that knows nothing starts."""
    design: InverterDesign = flax.struct.field(pytree_node=False)


def fresh_inverter(
    key: jax.Array,
    design: InverterDesign,
    params: Params,
    updates: Any,
    pixels: jax.Array,
    *,
    num_coordinates: int = 4096,
) -> Inverter:
    """An inverter that has learned nothing yet.

    Args:
      key: of the subset and of the network's parameters.
      design: what it is made of.
      params: of the model whose gradients it reads, for their shapes.
      updates: gradients to take the spread from, leaves `[M, ...]` as
        `trained(params)`.
      pixels: `[N, H, W, C]` in [0, 1], to take the mean from.
      num_coordinates: how many numbers are read beside the output layer; all where
        there are no more.

    Raises:
      InputError: the number is not positive, or the output layer is not to be found.
    """
    check_positive("num_coordinates", num_coordinates)
    of_subset, of_network = jax.random.split(key)
    coordinates = _coordinates(of_subset, params, design.spec, num_coordinates)
    seen = jax.vmap(lambda update: _unit(flat(update)[coordinates])[0])(updates)
    spread = jnp.sqrt(jnp.mean(seen**2, axis=0) + 1e-6)
    read = jax.ShapeDtypeStruct((1, len(coordinates) + 1), jnp.float32)
    net = dict(design.network.lazy_init(of_network, read)["params"])
    # The mean image is what it says at first, so that nothing is spent on that.
    last = net["decoder"]["pixels"]
    net["decoder"] = {**net["decoder"], "pixels": jax.tree.map(lambda w: w * 0.1, last)}
    return Inverter(net, coordinates, spread, pixels.mean(0), design)


def features(inverter: Inverter, update: Any) -> jax.Array:
    """`[D + 1]`, what the inverter reads of one update, and the log of its size."""
    unit, size = _unit(flat(update)[inverter.coordinates])
    return jnp.append(unit / inverter.spread, jnp.log(size))


def inverted(inverter: Inverter, read: jax.Array) -> jax.Array:
    """Images in [0, 1], `[N, H, W, C]`, from the `features` `[N, D + 1]` of updates."""
    logits: Any = inverter.design.network.apply({"params": inverter.params}, read)
    mean = jnp.clip(inverter.mean, 0.01, 0.99)
    return jax.nn.sigmoid(logits + jnp.log(mean) - jnp.log1p(-mean))


def flat(update: Any) -> jax.Array:
    """`[P]`, all numbers of an update in the order of its leaves."""
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(update)])


def _unit(read: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What was read at a root mean square of 1, and what that was."""
    size = jnp.sqrt(jnp.mean(read**2) + FLOOR)
    return read / size, size


def _coordinates(key: jax.Array, params: Params, spec: Spec, count: int) -> jax.Array:
    weights = trained(params)
    head = find_head(weights, spec)
    leaves = jax.tree.leaves(weights)
    own = [any(leaf is part for part in head) for leaf in leaves]
    starts = [sum(leaf.size for leaf in leaves[:i]) for i in range(len(leaves))]
    spans = [
        jnp.arange(start, start + leaf.size, dtype=jnp.int32)
        for start, leaf in zip(starts, leaves, strict=True)
    ]
    of_head = [span for span, mine in zip(spans, own, strict=True) if mine]
    others = [span for span, mine in zip(spans, own, strict=True) if not mine]
    if others:
        rest = jnp.concatenate(others)
        taken = min(count, len(rest))
        of_head.append(jax.random.choice(key, rest, (taken,), replace=False))
    return jnp.sort(jnp.concatenate(of_head))
