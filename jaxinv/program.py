"""A batch of starts as one compiled program, for any number of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxinv.attacks.base import Attack, Reconstruction
from jaxinv.memory import starts_at_once
from jaxinv.observation import Observation
from jaxinv.precision import rounded


class Program(NamedTuple):
    """Compiled for `chunk` starts; every leaf of a state has that as leading axis."""

    chunk: int
    """Starts that advance together."""
    init: Callable[[Observation, Any], Any]
    """`(observation, (keys, options)) -> states`, leaves `[chunk, ...]`."""
    advance: Callable[[Observation, Any, jax.Array], tuple[Any, jax.Array]]
    """`(observation, states, count) -> (states, scores [chunk])`, `count` steps; the
    states given are donated."""
    finish: Callable[[Observation, Any], Reconstruction]
    """`(observation, states) -> Reconstruction`, leaves `[chunk, ...]`."""
    certify: Callable[[Observation, Any, Reconstruction], Reconstruction] | None
    """`(observation, options, found) -> found`, of one start; see `Attack`."""
    state_bytes: int
    """Of one start's state."""


def compile_program(
    make: Callable[..., Attack],
    key: jax.Array,
    options: dict[str, jax.ShapeDtypeStruct],
    observation: Observation,
    *,
    num: int,
    chunk: int | None = None,
    precision: str | None = None,
    certifies: bool = False,
) -> Program:
    """Traces one start, decides how many fit, and compiles for so many.

    Args:
      make: `(**options) -> Attack`, of one start.
      key: one, for its shape.
      options: shapes of one start's hyper-parameters.
      observation: for its shapes.
      num: starts wanted in all.
      chunk: starts to compile for; None lets `jaxinv.memory` decide.
      precision: of the steps, see `jaxinv.precision`; the caller is within its
        `numerics`.
      certifies: whether the attack has something to say of its winner.
    """

    def init(observation: Observation, start: Any) -> Any:
        key, options = start
        return options, make(**options).init(key, observation)

    def step(observation: Observation, state: Any) -> Any:
        options, inner = state
        inner, info = make(**options).step(observation, inner)
        return (options, inner), info["score"]

    def finish(observation: Observation, state: Any) -> Reconstruction:
        options, inner = state
        return make(**options).finish(observation, inner)

    one = jax.eval_shape(init, observation, (key, options))
    leaves, structure = jax.tree.flatten(one)
    # Traced once: what is read for its memory is what is compiled.
    closed, (_, score) = jax.make_jaxpr(step, return_shape=True)(observation, one)
    chunk = min(num, chunk or starts_at_once(closed, len(leaves), num))

    run_step = rounded(precision, closed)

    def traced(observation: Observation, state: Any) -> Any:
        args = [*jax.tree.leaves(observation), *jax.tree.leaves(state)]
        *state, score = run_step(*args)
        return jax.tree.unflatten(structure, state), score

    def each(f: Callable) -> Callable:
        if chunk > 1:
            return jax.vmap(f, (None, 0))

        # One start without the axis, so that no product becomes a batched one.
        def alone(observation: Observation, states: Any) -> Any:
            out = f(observation, jax.tree.map(lambda x: x[0], states))
            return jax.tree.map(lambda x: x[None], out)

        return alone

    def advance(observation: Observation, states: Any, count: jax.Array) -> Any:
        def body(_: jax.Array, carry: Any) -> Any:
            return each(traced)(observation, carry[0])

        worst = jnp.full((chunk,), jnp.inf, score.dtype)
        return jax.lax.fori_loop(0, count, body, (states, worst))

    starts = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((chunk, *x.shape), x.dtype), (key, options)
    )
    states = jax.eval_shape(each(init), observation, starts)
    count = jax.ShapeDtypeStruct((), jnp.int32)

    def certify(observation: Observation, options: Any, found: Reconstruction) -> Any:
        certify_ = make(**options).certify
        assert certify_ is not None
        return certify_(observation, found)

    def compiled(f: Callable, *args: Any, **kwargs: Any) -> Callable:
        return jax.jit(f, **kwargs).lower(observation, *args).compile()

    return Program(
        chunk,
        compiled(each(init), starts),
        # Donated: the states of a batch of starts are held once, not twice.
        compiled(advance, states, count, donate_argnums=1),
        compiled(each(finish), states),
        compiled(certify, one[0], jax.eval_shape(finish, observation, one))
        if certifies
        else None,
        sum(x.size * x.dtype.itemsize for x in leaves),
    )
