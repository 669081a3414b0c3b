"""Distance analysis: what share of an attacker's distance a mask takes away.

An attack minimises the distance D(g', g) of its guess's update g' to the observed g.
Encrypting coordinates removes their part of D; how large it is can be told without an
attack. After the "distance-based significance analysis framework" that the abstract of
arXiv 2508.04155 names; its equations are not public to us, and these are ours:

    l2       D = sum_m (g'_m - g_m)^2
    cosine   D = 1 - cos(g', g) = 1/2 sum_m (g'_m / |g'| - g_m / |g|)^2

Both are sums over coordinates of what is not negative, so each coordinate has a share.
For a guess that knows nothing the share is about g_m^2 plus the variance of g'_m, the
order of the magnitude; for one near the truth it is (dg_m/dx . dx)^2, that of the
sensitivity to the input.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxinv.errors import InputError
from jaxinv.options import check_choice, check_positive
from jaxinv.release import Release
from jaxinv.target import Batch, Params

DISTANCES = ("l2", "cosine")
"""What can be analysed."""


def distance_parts(guess: Any, observed: Any, *, distance: str = "l2") -> Any:
    """Each coordinate's part of the distance, a tree like the updates.

    Raises:
      InputError: the distance is unknown.
    """
    check_choice("distance", distance, DISTANCES)
    if distance == "cosine":
        guess, observed = _unit(guess), _unit(observed)
    half = 0.5 if distance == "cosine" else 1.0
    return jax.tree.map(lambda a, b: half * (a - b) ** 2, guess, observed)


def distance_shares(
    key: jax.Array,
    release: Release,
    params: Params,
    batch: Batch,
    *,
    distance: str = "l2",
    near: float | None = None,
    num_guesses: int = 16,
) -> Any:
    """Each coordinate's share of the distance, the mean over drawn guesses.

    Args:
      key: draws the guesses.
      release: what the client does, and the attacker on its guess.
      params: what the server sent.
      batch: the client's secret; its labels are the guess's too.
      distance: one of `DISTANCES`.
      near: None for guesses that know nothing, standard normal in the normalised
        space, as attacks start; else their standard deviation around the truth.
      num_guesses: how many are drawn.

    Returns:
      Tree like the update, at least 0, summing to 1 (0 where the guesses have no
      distance at all).

    Raises:
      InputError: an argument is out of range.
    """
    check_choice("distance", distance, DISTANCES)
    check_positive("num_guesses", num_guesses)
    if near is not None and not near > 0:
        raise InputError(f"near is {near}; expected None or more than 0")
    key_client, key_guess = jax.random.split(key)
    truth = jnp.asarray(batch.inputs)
    observed = release(key_client, params, batch)

    def add(total: Any, drawn: jax.Array) -> tuple[Any, None]:
        key_draw, key_release = jax.random.split(drawn)
        noise = jax.random.normal(key_draw, truth.shape, truth.dtype)
        inputs = noise if near is None else truth + near * noise
        guess = release(key_release, params, batch._replace(inputs=inputs))
        parts = distance_parts(guess, observed, distance=distance)
        whole = sum(leaf.sum() for leaf in jax.tree.leaves(parts))
        share = 1 / (num_guesses * jnp.where(whole > 0, whole, 1))
        return jax.tree.map(lambda t, p: t + share * p, total, parts), None

    start = jax.tree.map(jnp.zeros_like, observed)
    return jax.lax.scan(add, start, jax.random.split(key_guess, num_guesses))[0]


def removed(shares: Any, mask: Any) -> jax.Array:
    """`[]`, the share of the distance that a mask (True = encrypted) takes away."""
    parts = jax.tree.map(lambda s, m: jnp.sum(jnp.where(m, s, 0)), shares, mask)
    return jnp.stack(jax.tree.leaves(parts)).sum()


def _unit(tree: Any) -> Any:
    norm2 = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))
    norm = jnp.sqrt(jnp.where(norm2 > 0, norm2, 1.0))
    return jax.tree.map(lambda leaf: leaf / norm, tree)
