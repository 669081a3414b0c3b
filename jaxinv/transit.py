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
    every_row: bool = False,
    float16: bool = False,
) -> Observation:
    """The observation as it arrives; pure, for vmap.

    Args:
      key: of the noise, consumed.
      observation: of one client. Rows of zeros in `items` are of items it does not
        rate; they are not sent, and so stay zero.
      noise: standard deviation of Gaussian noise on every entry sent, as a share of
        the root mean square of its round and leaf, rows of zeros left out.
      every_row: whether rows of zeros are sent as well, with as much noise as the
        others, to hide which items the client rates. The observation must then hold
        every item, and no row that only pads it.
      float16: whether the update is rounded to it, after the noise.
    """
    update = observation.update
    if noise:
        keys = jax.random.split(key, observation.rounds)
        noisy = jax.vmap(lambda k, one: _noisy(k, one, noise, every_row))
        update = noisy(keys, update)
    if float16:
        update = jax.tree.map(lambda x: x.astype(jnp.float16).astype(x.dtype), update)
    return dataclasses.replace(observation, update=update)


def _noisy(key: jax.Array, update: Any, share: float, every_row: bool) -> Any:
    """One round's update, leaves without the axis of rounds."""
    trained = jax.tree.map(jnp.ones_like, update)
    rows = jnp.any(update["items"] != 0, axis=-1, keepdims=True)
    trained = {**trained, "items": trained["items"] * rows}
    leaves, structure = jax.tree.flatten(update)
    keys = jax.tree.unflatten(structure, list(jax.random.split(key, len(leaves))))

    def one(key: jax.Array, x: jax.Array, trained: jax.Array) -> jax.Array:
        size = jnp.sqrt(jnp.sum(x**2) / jnp.maximum(trained.sum(), 1))
        noise = share * size * jax.random.normal(key, x.shape, x.dtype)
        return x + (noise if every_row else noise * trained)

    return jax.tree.map(one, keys, update, trained)
