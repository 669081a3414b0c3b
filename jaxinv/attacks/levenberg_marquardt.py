"""Levenberg and Marquardt's method for sums of squares, without forming a matrix.

Levenberg 1944; Marquardt 1963, https://doi.org/10.1137/0111030. The normal equations
are solved by conjugate gradients, so that a step costs some products with the Jacobian
and its transpose. Where a residual of zero can be reached it converges quadratically
along valleys in which first-order methods and L-BFGS without a line search stall.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

FIRST_DAMPING = 1.0
"""Of the normal equations, relative to residuals of size 1."""


class LeastSquares(NamedTuple):
    """A sum of squares of residuals, by way of the factors that they are made of.

    Residuals that are large and made of little, such as an outer product, are then
    formed once a step and not in every product with their Jacobian.
    """

    factors: Callable[[jax.Array], Any]
    """`(point) -> tree`, differentiable."""
    squares: Callable[[Any], jax.Array]
    """`(factors) -> []`, the sum of the residuals' squares."""
    slope: Callable[[Any], Any]
    """`(factors) -> tree like them`: half the derivative of `squares` by them."""
    lengths: Callable[[Any], Callable[[Any], Any]]
    """`(factors) -> (change of the factors) -> tree`, linear in the change: a short
    form of the residuals' change, with the same inner products."""


def plain(residuals: Callable[[jax.Array], Any]) -> LeastSquares:
    """Least squares of `(point) -> tree of arrays`, the residuals being the factors."""
    return LeastSquares(residuals, sum_of_squares, lambda r: r, lambda _: lambda d: d)


def lm_step(
    problem: LeastSquares, point: jax.Array, damping: jax.Array, *, products: int = 20
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One step, kept if the sum of squares falls.

    Args:
      problem: what is minimised.
      point: `[...]`, where the step starts.
      damping: `[]`, added to the normal equations' diagonal; adapted by the result.
      products: conjugate-gradient iterations, one product with the Jacobian and one
        with its transpose each.

    Returns:
      The new point (the old one where the step was worse or not finite), the next
      damping, the sum of squares at the new point.
    """
    now, push = jax.linearize(problem.factors, point)
    lengths = problem.lengths(now)
    pull = jax.linear_transpose(push, point)
    weigh = jax.linear_transpose(lengths, now)

    def normal(direction: jax.Array) -> jax.Array:
        return pull(weigh(lengths(push(direction)))[0])[0] + damping * direction

    downhill = pull(problem.slope(now))[0]
    step, _ = jax.scipy.sparse.linalg.cg(normal, downhill, maxiter=products)
    moved = point - step
    before, after = problem.squares(now), problem.squares(problem.factors(moved))
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
