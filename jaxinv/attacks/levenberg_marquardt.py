"""Levenberg and Marquardt's method for sums of squares, without forming a matrix.

Levenberg 1944; Marquardt 1963, https://doi.org/10.1137/0111030. The normal equations
are solved by conjugate gradients, so that a step costs some products with the Jacobian
and its transpose. Where a residual of zero can be reached it converges quadratically
along valleys in which first-order methods and L-BFGS without a line search stall.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

FIRST_DAMPING = 1.0
"""Of the normal equations, relative to residuals of size 1."""


def lm_step(
    residuals: Callable[[jax.Array], Any],
    point: jax.Array,
    damping: jax.Array,
    *,
    products: int = 20,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One step, kept if the sum of squares falls.

    Args:
      residuals: `(point) -> tree of arrays`, differentiable.
      point: `[...]`, where the step starts.
      damping: `[]`, added to the normal equations' diagonal; adapted by the result.
      products: conjugate-gradient iterations, one product with the Jacobian and one
        with its transpose each.

    Returns:
      The new point (the old one where the step was worse or not finite), the next
      damping, the sum of squares at the new point.
    """
    now, push = jax.linearize(residuals, point)
    pull = jax.linear_transpose(push, point)

    def normal(direction: jax.Array) -> jax.Array:
        return pull(push(direction))[0] + damping * direction

    step, _ = jax.scipy.sparse.linalg.cg(normal, pull(now)[0], maxiter=products)
    moved = point - step
    before, after = sum_of_squares(now), sum_of_squares(residuals(moved))
    better = after < before  # False for NaN
    floor = jnp.finfo(point.dtype).eps
    return (
        jnp.where(better, moved, point),
        jnp.where(better, jnp.maximum(damping / 4, floor**2), damping * 4),
        jnp.where(better, after, before),
    )


def sum_of_squares(tree: Any) -> jax.Array:
    """`[]`, over all entries of all leaves."""
    return sum((jnp.sum(x**2) for x in jax.tree.leaves(tree)), start=jnp.zeros(()))
