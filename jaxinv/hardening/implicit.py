"""Implicit: the derivative of an attack's solution, where its slope is 0.

With z* = argmin F(z, a), dz*/da = -H^-1 d^2F/dz da, H the Hessian by z, whatever way
led there. One linear system along the slope of the privacy, by conjugate gradients on
products with H: Pedregosa, ICML 2016, arXiv 1602.02355; Lorraine, Vicol and Duvenaud,
AISTATS 2020, arXiv 1911.02590. Memory does not depend on the steps of the attack.

It holds at a solution: where the attack was stopped before, or its box has no single
lowest point, the residual and the distance say so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.sparse.linalg import cg

from jaxinv.attacks.base import Status, advance
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.errors import InputError
from jaxinv.hardening.privacy import (
    Distance,
    PrivacyFn,
    PrivacySlope,
    mean_squared,
    observed,
)
from jaxinv.objective import ObjectiveFn
from jaxinv.options import check_positive
from jaxinv.release import Release
from jaxinv.space import Space
from jaxinv.target import Params, Target

SOLVED = 0.05
"""Relative residual of the linear system up to which its solution is one."""


class ImplicitSlope(NamedTuple):
    """The derivative of `outer(z*(a), a)` by a."""

    value: jax.Array
    """`[]`, the outer function at the point that was given."""
    slope: Any
    """Structured as the arguments."""
    residual: jax.Array
    """`[]`, `|(H + damping) q - v| / |v|` on the free coordinates."""
    distance: jax.Array
    """`[]`, how far the solution may be, per free coordinate, in units of z: the inner
    slope over the curvature along v."""
    status: jax.Array
    """`[]` int32, a `Status`: OK; UNDERDETERMINED where the residual is above
    `SOLVED`; DIVERGED where a number is not finite."""


def implicit_slope(
    inner: Callable[[Any, Any], jax.Array],
    outer: Callable[[Any, Any], jax.Array],
    z: Any,
    arguments: Any,
    *,
    free: Any = None,
    damping: float = 1e-3,
    num_iterations: int = 100,
) -> ImplicitSlope:
    """The derivative of a function of a minimum, by the implicit function theorem.

    Args:
      inner: `(z, arguments) -> scalar`, what z minimises; differentiable twice in
        reverse.
      outer: `(z, arguments) -> scalar`.
      z: a tree of float arrays, the minimum.
      arguments: a tree of float arrays.
      free: tree of bools like z, False where a bound holds a coordinate, which then
        does not move; None is all free.
      damping: added to H, in units of its curvature along the slope of the outer
        function, so that the solution along flat directions stays finite.
      num_iterations: of conjugate gradients at most.

    Raises:
      InputError: an argument is out of range.
    """
    if not damping >= 0:
        raise InputError(f"damping is {damping}; expected 0 or more")
    check_positive("num_iterations", num_iterations)
    if free is None:
        free = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), z)

    def keep(tree: Any) -> Any:
        return jax.tree.map(lambda leaf, f: jnp.where(f, leaf, 0), tree, free)

    value, (pull_z, direct) = jax.value_and_grad(outer, (0, 1))(z, arguments)
    v = keep(pull_z)
    # H is symmetric: pulling back is multiplying, and some losses refuse forward mode.
    inner_slope, pull = jax.vjp(lambda z, a: jax.grad(inner)(z, a), z, arguments)

    def curved(direction: Any) -> Any:
        return keep(pull(keep(direction))[0])

    squared = jnp.maximum(_dot(v, v), jnp.finfo(value.dtype).tiny)
    curvature = jnp.abs(_dot(v, curved(v))) / squared

    def damped(direction: Any) -> Any:
        return jax.tree.map(
            lambda h, d: h + damping * curvature * d, curved(direction), direction
        )

    q, _ = cg(damped, v, tol=1e-3 * SOLVED, maxiter=num_iterations)
    left = jax.tree.map(jnp.subtract, damped(q), v)
    residual = jnp.sqrt(_dot(left, left) / squared)
    slope = jax.tree.map(jnp.subtract, direct, pull(q)[1])
    held = keep(inner_slope)
    count = jnp.maximum(sum(f.sum() for f in jax.tree.leaves(free)), 1)
    far = jnp.sqrt(_dot(held, held) / count) / jnp.maximum(
        curvature, jnp.finfo(value.dtype).tiny
    )
    finite = jnp.isfinite(residual) & jnp.isfinite(value)
    for leaf in jax.tree.leaves(slope):
        finite &= jnp.isfinite(leaf).all()
    status = jnp.where(residual <= SOLVED, Status.OK, Status.UNDERDETERMINED)
    status = jnp.where(finite, status, Status.DIVERGED).astype(jnp.int32)
    return ImplicitSlope(value, slope, residual, far, status)


def at_solution(
    target: Target,
    release: Callable[[Any], Release],
    objective: Callable[[Any], ObjectiveFn],
    space: Callable[[Any], Space],
    optimizer: optax.GradientTransformation,
    num_steps: int,
    *,
    distance: Distance = mean_squared,
    labels: bool = True,
    restarts: int = 1,
    damping: float = 1e-3,
    num_iterations: int = 100,
) -> PrivacyFn:
    """The privacy at the solution of gradient matching.

    The attack itself is not differentiated, so its optimiser may be any, a signed one
    as well. `info` adds "residual" and "distance" of `ImplicitSlope`; where that has
    no solution the status says so and the slope is what was found.

    Args:
      target: the model.
      release: `(parameters) -> release`, what a client sends.
      objective: `(parameters) -> objective` of the attack, twice differentiable by the
        point.
      space: `(batch) -> space` of the attack; the secret batch is there for
        `from_truth` alone. Coordinates that `project` holds do not move.
      optimizer: of the attack.
      num_steps: of the attack, enough to come close to its solution.
      distance: of the truth and a guess.
      labels: whether the attacker is granted them.
      restarts: starts, one after the other; the attacker's best score wins.
      damping: see `implicit_slope`.
      num_iterations: see `implicit_slope`.

    Raises:
      InputError: an argument is out of range.
    """
    check_positive("restarts", restarts)

    def privacy(key: jax.Array, parameters: Any, params: Params, batch: Any):
        key_release, key_attack, key_objective = jax.random.split(key, 3)

        def seen(parameters: Any):
            return observed(
                key_release, release(parameters), target, params, batch, labels
            )

        observation = seen(parameters)
        where = space(batch)
        attack = gradient_matching(objective(parameters), where, optimizer, num_steps)
        run = advance(attack, num_steps)

        def start(key: jax.Array):
            state = attack.init(key, observation)
            state, _ = run(observation, state)
            score = attack.finish(observation, state).score
            score = jnp.where(jnp.isnan(score), jnp.inf, score)
            return state.best_z, state.given, score

        every = jax.lax.map(start, jax.random.split(key_attack, restarts))
        z, given, score = jax.tree.map(lambda x: x[jnp.argmin(every[2])], every)

        def inner(z: Any, parameters: Any) -> jax.Array:
            guess = where.decode(z, given)
            return objective(parameters)(key_objective, seen(parameters), guess)[0]

        def outer(z: Any, parameters: Any) -> jax.Array:
            del parameters
            return distance(batch, where.decode(z, given))

        found = implicit_slope(
            inner,
            outer,
            z,
            parameters,
            free=_free(where, z, jax.grad(inner)(z, parameters)),
            damping=damping,
            num_iterations=num_iterations,
        )
        status = jnp.where(jnp.isfinite(score), found.status, Status.DIVERGED)
        info = {
            "score": score,
            "status": status.astype(jnp.int32),
            "residual": found.residual,
            "distance": found.distance,
        }
        return PrivacySlope(found.value, found.slope, info)

    return privacy


def _free(space: Space, z: Any, slope: Any) -> Any:
    """Where a small move downhill is a move, and not taken back by `project`."""
    moved = jax.tree.map(lambda x, g: x - 1e-3 * jnp.where(g < 0, -1, 1), z, slope)
    return jax.tree.map(lambda a, b: a != b, space.project(moved), z)


def _dot(a: Any, b: Any) -> jax.Array:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum((jnp.vdot(x, y) for x, y in pairs), start=jnp.zeros(()))
