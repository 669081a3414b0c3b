"""Pruning: the smallest numbers of the update are not sent.

Zhu et al., NeurIPS 2019, arXiv 1906.08935, section 5.2, after Lin et al., "Deep
Gradient Compression", ICLR 2018, arXiv 1712.01887 (without the memory of what was held
back, which a single round does not have).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxinv.defenses.checks import check_scope, check_strength
from jaxinv.defenses.protection import Defense


def pruning(rate: float = 0.9, *, scope: str = "global") -> Defense:
    """Zeroes the share `rate` of the numbers that is smallest in magnitude.

    Which numbers are sent counts as constant in derivatives.

    Args:
      rate: in [0, 1]; of n numbers `round(rate * n)` are zeroed, of equal ones the
        later first.
      scope: "global", over the whole update, or "layer", in every tensor.

    Raises:
      InputError: the rate is out of range or the scope unknown.
    """
    check_strength("rate", rate, most=1.0)
    check_scope(scope)

    def update(updates: Any, state: Any, params: Any = None):
        del params
        leaves, structure = jax.tree.flatten(updates)
        if scope == "layer":
            masks = [_largest([leaf], rate)[0] for leaf in leaves]
        else:
            masks = _largest(leaves, rate)
        kept = [
            jnp.where(mask, leaf, 0) for leaf, mask in zip(leaves, masks, strict=True)
        ]
        return jax.tree.unflatten(structure, kept), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _largest(leaves: list[jax.Array], rate: float) -> list[jax.Array]:
    """Where the numbers are that are not among the smallest."""
    sizes = jax.lax.stop_gradient([jnp.abs(leaf).reshape(-1) for leaf in leaves])
    flat = jnp.concatenate(sizes)
    kept = flat.size - round(rate * flat.size)
    # A top-k has exactly so many, whatever is equal.
    where = jax.lax.top_k(flat, kept)[1]
    mask = jnp.zeros(flat.shape, bool).at[where].set(True)
    masks, start = [], 0
    for leaf in leaves:
        masks.append(mask[start : start + leaf.size].reshape(leaf.shape))
        start += leaf.size
    return masks
