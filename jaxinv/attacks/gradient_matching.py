"""Gradient matching: descend on the distance between the guess's update and the seen.

The loop behind DLG, Inverting Gradients, See through Gradients and their kin; those
files hold only each paper's choice of space, objective and optimiser.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxinv.attacks.base import Attack, Reconstruction, Status
from jaxinv.errors import InputError
from jaxinv.objective import ObjectiveFn
from jaxinv.observation import Observation
from jaxinv.space import Space


class GradientMatchingState(NamedTuple):
    """One start on its way."""

    key: jax.Array
    """Split once a step."""
    z: Any
    """The current point of the space."""
    given: Any
    """What the space holds fixed, such as labels."""
    optimizer: Any
    """The optax optimiser's state."""
    best_z: Any
    """The point of lowest objective so far."""
    best_total: jax.Array
    """`[]`, its objective."""
    best_match: jax.Array
    """`[]`, the match in it."""
    diverged: jax.Array
    """`[]` bool, whether a NaN or infinity was met."""


def gradient_matching(
    objective: ObjectiveFn,
    space: Space,
    optimizer: optax.GradientTransformation,
    num_steps: int,
) -> Attack:
    """An attack that minimises `objective` over `space`.

    Args:
      objective: see `jaxinv.objective.objective`.
      space: where to search, and how a point becomes a batch.
      optimizer: any optax transformation; it may take `key=` as an extra argument.
        Its schedules should end at `num_steps`.
      num_steps: gradient evaluations in a run.

    Returns:
      An attack that returns its point of lowest objective. The score is the match
      alone: a prior is a belief, not evidence. `stats`: "objective".
    """
    if num_steps < 1:
        raise InputError(f"num_steps is {num_steps}; expected 1 or more")
    optimizer_ = optax.with_extra_args_support(optimizer)

    def init(key: jax.Array, observation: Observation) -> GradientMatchingState:
        key_space, key = jax.random.split(key)
        z, given = space.init(key_space, observation)
        z = space.project(z)
        dtype = jnp.result_type(*jax.tree.leaves(z))
        worst = jnp.asarray(jnp.inf, dtype)
        return GradientMatchingState(
            key, z, given, optimizer_.init(z), z, worst, worst, jnp.asarray(False)
        )

    def step(observation: Observation, state: GradientMatchingState):
        key, key_objective, key_optimizer = jax.random.split(state.key, 3)
        (total, terms), grads = jax.value_and_grad(
            lambda z: objective(
                key_objective, observation, space.decode(z, state.given)
            ),
            has_aux=True,
        )(state.z)
        better = total < state.best_total
        state = state._replace(
            best_z=_where(better, state.z, state.best_z),
            best_total=jnp.where(better, total, state.best_total),
            best_match=jnp.where(better, terms.match, state.best_match),
            diverged=state.diverged | ~jnp.isfinite(total),
        )
        updates, optimizer_state = optimizer_.update(
            grads, state.optimizer, state.z, key=key_optimizer
        )
        z = space.project(optax.apply_updates(state.z, updates))
        info = {"score": state.best_match, "objective": state.best_total}
        return state._replace(key=key, z=z, optimizer=optimizer_state), info

    def finish(observation: Observation, state: GradientMatchingState):
        # The last point was stepped to and not looked at: that would compile the whole
        # objective a second time, for one step of many.
        diverged = state.diverged
        return Reconstruction(
            batch=space.decode(state.best_z, state.given),
            score=jnp.where(diverged, jnp.inf, state.best_match),
            status=jnp.where(diverged, Status.DIVERGED, Status.OK).astype(jnp.int32),
            stats={"objective": state.best_total},
        )

    return Attack(init, step, finish, num_steps)


def _where(condition: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
