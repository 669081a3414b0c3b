"""Clipping: the update's norm is bounded, whole or tensor by tensor.

Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv 1607.00133,
Algorithm 1, applied to the whole update (clients clip so before they add noise) instead
of to every example's, which `jaxinv.defenses.dp_sgd` does.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxinv.defenses.checks import check_scope, check_strength
from jaxinv.defenses.protection import Defense


def clipping(norm: float = 4.0, *, scope: str = "global") -> Defense:
    """Shortens what is longer than `norm`, and leaves the rest alone.

    Args:
      norm: the largest Euclidean norm; infinite leaves everything.
      scope: "global", of the whole update, or "layer", of every tensor.

    Raises:
      InputError: `norm` is negative or NaN, or the scope is unknown.
    """
    check_strength("norm", norm, most=jnp.inf)
    check_scope(scope)

    def update(updates: Any, state: Any, params: Any = None):
        del params
        if scope == "global":
            return _shortened(updates, norm), state
        return jax.tree.map(lambda leaf: _shortened(leaf, norm), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _shortened(tree: Any, norm: float) -> Any:
    # The largest entry first, so that no square overflows; a length of 0 has no slope.
    leaves = jax.tree.leaves(tree)
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves]))
    safe = jax.lax.stop_gradient(jnp.where(largest > 0, largest, 1.0))
    square = sum(jnp.sum((leaf / safe) ** 2) for leaf in leaves)
    length = safe * jnp.sqrt(jnp.where(largest > 0, square, 1.0))
    factor = jnp.where(length > norm, norm / length, 1.0)
    return jax.tree.map(lambda leaf: leaf * factor, tree)
