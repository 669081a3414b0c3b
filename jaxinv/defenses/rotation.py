"""Rotation: another defence in a random basis, where no coordinate stands out.

Suresh et al., "Distributed Mean Estimation with Limited Communication", ICML 2017,
arXiv 1611.00429, section 3: random signs, then a Walsh-Hadamard transform, both undone
afterwards. Quantisation errs less in it; pruning hits what is no coordinate of the
model.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import optax

from jaxinv.defenses.protection import Defense


class RotationState(NamedTuple):
    """What the signs are drawn from, and the inner defence's state."""

    key: jax.Array
    inner: Any


def rotated(inner: Defense, *, seed: int = 0) -> Defense:
    """A defence applied to the whole update as one vector, turned at random.

    Args:
      inner: a defence of updates; its update is one `[D]` array, D a power of 2.
      seed: as in `jaxinv.defenses.noise.gaussian_noise`.
    """

    def init(params: Any) -> RotationState:
        return RotationState(jax.random.key(seed), inner.init(_padded(params)[0]))

    def update(updates: Any, state: Any, params: Any = None):
        flat, restore = _padded(updates)
        after, now = jax.random.split(state.key)
        signs = jax.random.rademacher(now, flat.shape, flat.dtype)
        weights = None if params is None else hadamard(signs * _padded(params)[0])
        sent: Any
        sent, rest = inner.update(hadamard(signs * flat), state.inner, weights)
        return restore(signs * hadamard(sent)), RotationState(after, rest)

    return optax.GradientTransformation(init, update)


def hadamard(x: jax.Array) -> jax.Array:
    """`[D]` times the orthonormal Walsh-Hadamard matrix, which is its own inverse."""
    size = len(x)
    step = 1
    while step < size:
        pairs = x.reshape(-1, 2, step)
        x = jnp.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], 1)
        x = x.reshape(-1)
        step *= 2
    return x / jnp.sqrt(jnp.asarray(size, x.dtype))


def _padded(tree: Any):
    flat, unravel = jax.flatten_util.ravel_pytree(tree)
    size = 1 << max(len(flat) - 1, 0).bit_length()

    def restore(vector: jax.Array) -> Any:
        return unravel(vector[: len(flat)])

    return jnp.pad(flat, (0, size - len(flat))), restore
