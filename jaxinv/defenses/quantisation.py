"""Quantisation: every number of the update is sent in few bits.

`sign`: Bernstein et al., "signSGD", ICML 2018, arXiv 1802.04434, with the mean size of
the tensor as its step (Karimireddy et al., ICML 2019, arXiv 1901.09847).
`stochastic_quantisation`: Alistarh et al., "QSGD", NeurIPS 2017, arXiv 1610.02132,
section 3.1, unbiased.

Rounding has no derivative: both pass derivatives straight through, as if what is sent
were the number itself (Bengio et al. 2013, arXiv 1308.3432).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxinv.defenses.noise import NoiseState
from jaxinv.defenses.protection import Defense
from jaxinv.defenses.rotation import rotated
from jaxinv.errors import InputError


def sign() -> Defense:
    """Sends of every number its sign, times the tensor's mean absolute value."""

    def one(leaf: jax.Array) -> jax.Array:
        sent = jnp.sign(leaf) * jnp.mean(jnp.abs(leaf))
        return straight_through(leaf, sent)

    def update(updates: Any, state: Any, params: Any = None):
        del params
        return jax.tree.map(one, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def stochastic_quantisation(bits: int = 4, *, seed: int = 0) -> Defense:
    """Rounds to one of `2^bits - 1` steps of the tensor's norm, up or down by chance.

    Args:
      bits: of the size of a number; its sign is one more.
      seed: as in `jaxinv.defenses.noise.gaussian_noise`.

    Raises:
      InputError: `bits` is not an integer from 1 to 16.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 16:
        raise InputError(f"bits is {bits!r}; expected an integer from 1 to 16")
    steps = 2**bits - 1

    def one(key: jax.Array, leaf: jax.Array) -> jax.Array:
        norm = jnp.linalg.norm(leaf.reshape(-1))
        share = jnp.abs(leaf) / jnp.where(norm > 0, norm, 1.0) * steps
        low = jnp.floor(share)
        up = jax.random.uniform(key, leaf.shape, leaf.dtype) < share - low
        return straight_through(leaf, jnp.sign(leaf) * (low + up) * (norm / steps))

    def update(updates: Any, state: Any, params: Any = None):
        del params
        after, now = jax.random.split(state.key)
        leaves, structure = jax.tree.flatten(updates)
        keys = jax.random.split(now, len(leaves))
        sent = [one(k, leaf) for k, leaf in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(structure, sent), NoiseState(after)

    return optax.GradientTransformation(
        lambda params: NoiseState(jax.random.key(seed)), update
    )


def rotated_quantisation(bits: int = 4, *, seed: int = 0) -> Defense:
    """The same in a random basis, where one norm fits all; arguments as there.

    Source: Suresh et al., ICML 2017, arXiv 1611.00429, section 3.
    """
    return rotated(stochastic_quantisation(bits, seed=seed), seed=seed)


def straight_through(exact: jax.Array, sent: jax.Array) -> jax.Array:
    """`sent` in value, `exact` in derivatives."""
    return jax.lax.stop_gradient(sent) + (exact - jax.lax.stop_gradient(exact))
