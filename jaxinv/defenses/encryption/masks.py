"""Masks: the share of an update that is encrypted, from a significance.

What is taken first is decided once (`positions`); the ratio only says how far
(`taken`), so that masks of many ratios cost one sort.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxinv.defenses.checks import check_strength
from jaxinv.defenses.encryption.sensitivity import layer_numbers
from jaxinv.options import check_choice

GRANULARITIES = ("coordinate", "per_tensor", "tensor", "layer")
"""What is taken by significance: coordinates of the whole update; coordinates, the same
share of each tensor; whole tensors; whole layers, a kernel with its bias."""


def encryption_mask(
    key: jax.Array,
    significance: Any,
    ratio: float,
    *,
    granularity: str = "coordinate",
) -> Any:
    """Which coordinates are encrypted.

    Args:
      key: breaks ties, and nothing else.
      significance: tree of floats like the update; see `positions` for those averaged
        over clients or not finite.
      ratio: in [0, 1]. Of n coordinates exactly `round(ratio * n)` are encrypted
        ("coordinate"), or of those of each tensor ("per_tensor"). Whole tensors and
        layers are taken until it is at least so many, so that the protection is never
        less than asked.
      granularity: one of `GRANULARITIES`.

    Returns:
      Bools like the update, True where encrypted. Constants to derivatives.

    Raises:
      InputError: the ratio is out of range or the granularity unknown.
    """
    ranked = positions(key, significance, granularity=granularity)
    return taken(ranked, ratio, granularity=granularity)


def positions(
    key: jax.Array, significance: Any, *, granularity: str = "coordinate"
) -> Any:
    """How many coordinates are encrypted before each one.

    Whole tensors and layers go by the mean significance of their coordinates, the
    highest first; the sum would favour the large ones, which cost as much more.

    Args:
      key: breaks ties.
      significance: tree of floats; NaN comes last.
      granularity: one of `GRANULARITIES`.

    Returns:
      int32 like the significance: within a tensor for "per_tensor", else over all; of a
      whole unit's coordinates what its first one has.

    Raises:
      InputError: the granularity is unknown.
    """
    check_choice("granularity", granularity, GRANULARITIES)
    leaves, structure = jax.tree.flatten(jax.lax.stop_gradient(significance))
    if granularity == "coordinate":
        flat = jnp.concatenate([leaf.reshape(-1) for leaf in leaves])
        found = _split(_places(key, flat), leaves)
    elif granularity == "per_tensor":
        keys = jax.random.split(key, len(leaves))
        found = [
            _places(k, leaf.reshape(-1)).reshape(leaf.shape)
            for k, leaf in zip(keys, leaves, strict=True)
        ]
    else:
        layers = layer_numbers(significance)
        units = layers if granularity == "layer" else list(range(len(leaves)))
        found = _whole(key, leaves, units)
    return jax.tree.unflatten(structure, found)


def taken(positions: Any, ratio: float, *, granularity: str = "coordinate") -> Any:
    """The mask of a ratio; see `encryption_mask`, with the same granularity.

    Raises:
      InputError: the ratio is out of range.
    """
    check_strength("ratio", ratio, most=1.0)
    leaves = jax.tree.leaves(positions)
    total = sum(leaf.size for leaf in leaves)

    def one(leaf: jax.Array) -> jax.Array:
        size = leaf.size if granularity == "per_tensor" else total
        return leaf < round(ratio * size)

    return jax.tree.map(one, positions)


def _places(key: jax.Array, scores: jax.Array) -> jax.Array:
    """`[n]` int32, the place of each score when the highest is first."""
    scores = jnp.where(jnp.isnan(scores), -jnp.inf, scores)
    drawn = jax.random.uniform(key, scores.shape)
    order = jnp.lexsort((drawn, -scores))
    places = jnp.arange(scores.size, dtype=jnp.int32)
    return jnp.zeros(scores.size, jnp.int32).at[order].set(places)


def _whole(
    key: jax.Array, leaves: list[jax.Array], units: list[int]
) -> list[jax.Array]:
    """The positions where whole units are taken; `units` numbers that of each leaf."""
    count = max(units) + 1
    sizes, sums = [0] * count, [jnp.zeros(())] * count
    for unit, leaf in zip(units, leaves, strict=True):
        sizes[unit] += leaf.size
        sums[unit] = sums[unit] + leaf.sum()
    size = jnp.array(sizes, jnp.int32)
    places = _places(key, jnp.stack(sums) / size)
    before = jnp.sum(jnp.where(places[None] < places[:, None], size[None], 0), 1)
    return [
        jnp.full(leaf.shape, before[unit], jnp.int32)
        for unit, leaf in zip(units, leaves, strict=True)
    ]


def _split(flat: jax.Array, leaves: list[jax.Array]) -> list[jax.Array]:
    parts, start = [], 0
    for leaf in leaves:
        parts.append(flat[start : start + leaf.size].reshape(leaf.shape))
        start += leaf.size
    return parts
