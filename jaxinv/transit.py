"""What happens to a recommender's update between client and server: noise, rounding."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxinv.observation import Observation


def in_transit(
    key: jax.Array,
    observation: Observation,
    *,
    noise: float = 0.0,
    float16: bool = False,
) -> Observation:
    """The observation as it arrives; pure, for vmap.

    Args:
      key: of the noise, consumed.
      observation: of one client. Rows of zeros in `items` are of items it does not
        rate; they are not sent, and so stay zero.
      noise: standard deviation of Gaussian noise on every entry sent, as a share of
        the root mean square of its round and leaf.
      float16: whether the update is rounded to it, after the noise.
    """
    update = observation.update
    if noise:
        keys = jax.random.split(key, observation.rounds)
        update = jax.vmap(lambda k, one: _noisy(k, one, noise))(keys, update)
    if float16:
        update = jax.tree.map(lambda x: x.astype(jnp.float16).astype(x.dtype), update)
    return dataclasses.replace(observation, update=update)


def _noisy(key: jax.Array, update: Any, share: float) -> Any:
    """One round's update, leaves without the axis of rounds."""
    sent = jax.tree.map(jnp.ones_like, update)
    rows = jnp.any(update["items"] != 0, axis=-1, keepdims=True)
    sent = {**sent, "items": sent["items"] * rows}
    leaves, structure = jax.tree.flatten(update)
    keys = jax.tree.unflatten(structure, list(jax.random.split(key, len(leaves))))

    def one(key: jax.Array, x: jax.Array, sent: jax.Array) -> jax.Array:
        size = jnp.sqrt(jnp.sum(x**2) / jnp.maximum(sent.sum(), 1))
        return x + share * size * sent * jax.random.normal(key, x.shape, x.dtype)

    return jax.tree.map(one, keys, update, sent)
