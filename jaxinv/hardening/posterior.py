"""Posterior: what noise leaves of the input, to first order around the truth.

With a Gaussian prior of the inputs and noise of known variance the best attacker's
error has the covariance `M^-1`, `M = J' S^-1 J + P`, J the derivative of the gradient
by the input, S the covariance of the noise, P the precision of the prior. A draw of it
is `M^-1 (J' S^-1/2 e + P^1/2 f)` with e and f standard normal (what the noise moves,
and what the prior gets wrong): one linear system instead of a search. So nothing can
be learned that only slows a search down, and its derivative is one system more.
Fisher information as a measure of leakage: Hannun, Guo and van der Maaten, UAI 2021,
arXiv 2102.11673; its use here is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg

from jaxinv.attacks.base import Status
from jaxinv.defenses.checks import check_strength
from jaxinv.defenses.noise import per_tensor
from jaxinv.hardening.implicit import SOLVED
from jaxinv.hardening.privacy import Distance, PrivacyFn, PrivacySlope, mean_squared
from jaxinv.options import check_positive
from jaxinv.release import gradient, trained
from jaxinv.target import Params, Target


def to_first_order(
    target: Target,
    std: Callable[[Any], Any] = lambda parameters: parameters,
    *,
    precision: float = 1.0,
    smoothness: float = 0.0,
    distance: Distance = mean_squared,
    num_iterations: int = 60,
) -> PrivacyFn:
    """The privacy that Gaussian noise on one gradient leaves, labels known.

    Args:
      target: the model.
      std: `(parameters) -> standard deviations`, one for all or a tree of one number
        per tensor.
      precision: of the prior, one over the variance of a normalised input.
      smoothness: of the prior of images, added to P for the squared difference of
        every two neighbours in height and width: 1 over twice its mean over data is a
        good choice. Alone it is a spectrum that falls with the square of the
        frequency, as that of photographs does.
      distance: of the truth and the truth plus the error.
      num_iterations: of conjugate gradients at most; `info` has the "residual".

    Raises:
      InputError: an argument is out of range.
    """
    check_strength("precision", precision)
    check_strength("smoothness", smoothness)
    check_positive("num_iterations", num_iterations)
    # Both modes are needed: the rule of the fast route refuses forward mode.
    release = gradient(target.loss, route="reverse")

    def privacy(key: jax.Array, parameters: Any, params: Params, batch: Any):
        x = batch.inputs

        def update(inputs: jax.Array) -> list[jax.Array]:
            guess = batch._replace(inputs=inputs)
            return jax.tree.leaves(release(key, params, guess))

        leaves, push = jax.linearize(update, x)
        pull = jax.linear_transpose(push, x)

        def root(d: jax.Array) -> list[jax.Array]:
            """R, where P = R'R: a draw of P^1/2 is R' of a standard normal one."""
            parts = [math.sqrt(precision) * d]
            if smoothness:
                steps = [jnp.diff(d, axis=axis) for axis in (1, 2)]
                parts += [math.sqrt(smoothness) * step for step in steps]
            return parts

        def drawn(key: jax.Array, like: list[jax.Array]) -> list[jax.Array]:
            keys = jax.random.split(key, len(like))
            pairs = zip(keys, like, strict=True)
            return [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in pairs]

        back = jax.linear_transpose(root, x)
        key_prior, key = jax.random.split(key)
        (wrong,) = back(drawn(key_prior, root(x)))
        draws = drawn(key, leaves)

        def value(parameters: Any):
            stds = per_tensor("std", std(parameters), trained(params))

            def curved(d: jax.Array) -> jax.Array:
                seen = [p / s**2 for p, s in zip(push(d), stds, strict=True)]
                return pull(seen)[0] + back(root(d))[0]

            (right,) = pull([n / s for n, s in zip(draws, stds, strict=True)])
            right = right + wrong

            def solve(matrix: Callable, b: jax.Array) -> jax.Array:
                return cg(matrix, b, tol=1e-4, maxiter=num_iterations)[0]

            error = jax.lax.custom_linear_solve(curved, right, solve, symmetric=True)
            left = jnp.linalg.norm((curved(error) - right).ravel())
            residual = left / jnp.linalg.norm(right.ravel())
            guess = batch._replace(inputs=x + error)
            return distance(batch, guess), jax.lax.stop_gradient(residual)

        (found, residual), slope = jax.value_and_grad(value, has_aux=True)(parameters)
        status = jnp.where(residual <= SOLVED, Status.OK, Status.UNDERDETERMINED)
        info = {"status": status.astype(jnp.int32), "residual": residual}
        return PrivacySlope(found, slope, info)

    return privacy
