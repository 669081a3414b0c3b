"""Metrics of recovered ratings and interactions.

Items that the client did not train on (`rated` 0) never count.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def rating_mae(truth: jax.Array, guess: jax.Array, rated: jax.Array) -> jax.Array:
    """`[]`, the mean absolute error over the rated items, in the units given.

    Args:
      truth: `[N]`.
      guess: `[N]`.
      rated: `[N]`, 1 for a rated item, else 0.
    """
    return _mean(jnp.abs(truth - guess), rated)


def exact_ratings(truth: jax.Array, guess: jax.Array, rated: jax.Array) -> jax.Array:
    """`[]`, the share of rated items whose rating, put on the grid, is the true one."""
    return _mean(jnp.abs(truth - guess) < 1e-3, rated)


def interaction_f1(truth: jax.Array, guess: jax.Array, rated: jax.Array) -> jax.Array:
    """`[]`, the F1 score of interactions guessed above one half; 0 where none is."""
    positive, true = (guess > 0.5) & (rated > 0), (truth > 0.5) & (rated > 0)
    both = 2 * jnp.sum(positive & true)
    count = positive.sum() + true.sum()
    return both / jnp.maximum(count, 1)


def interaction_auc(truth: jax.Array, guess: jax.Array, rated: jax.Array) -> jax.Array:
    """`[]`, the chance that an interaction scores above a non-interaction.

    By ranks (Mann and Whitney 1947), ties counting one half; NaN where all rated items
    are of one kind. Explicit ratings count as interactions above their mean.
    """
    cut = jnp.where(jnp.all((truth == 0) | (truth == 1)), 0.5, _mean(truth, rated))
    true, false = (truth > cut) & (rated > 0), (truth <= cut) & (rated > 0)
    known = jnp.sort(jnp.where(rated > 0, guess, jnp.inf))
    below = jnp.searchsorted(known, guess, side="left")
    upto = jnp.searchsorted(known, guess, side="right")
    ranks = jnp.where(true, (below + upto + 1) / 2, 0).sum()
    num_true, num_false = true.sum(), false.sum()
    pairs = num_true * num_false
    wins = ranks - num_true * (num_true + 1) / 2
    return jnp.where(pairs > 0, wins / jnp.maximum(pairs, 1), jnp.nan)


def embedding_error(truth: jax.Array, guess: jax.Array) -> jax.Array:
    """`[]`, the distance over the true norm, the sign of the embedding being free.

    Args:
      truth: `[rounds, D]`.
      guess: `[rounds, D]`.
    """
    apart = [jnp.linalg.norm(truth - sign * guess) for sign in (1, -1)]
    return jnp.minimum(*apart) / jnp.linalg.norm(truth)


def _mean(values: jax.Array, rated: jax.Array) -> jax.Array:
    return jnp.sum(values * rated) / jnp.maximum(rated.sum(), 1)
