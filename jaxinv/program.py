"""A batch of starts as one compiled program, for any number of steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxinv.attacks.base import Attack, Reconstruction
from jaxinv.memory import starts_at_once
from jaxinv.observation import Observation
from jaxinv.precision import rounded


class Program(NamedTuple):
    """Compiled for `chunk` starts; every leaf of a state has that as leading axis."""

    chunk: int
    """Starts that advance together, on all devices."""
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
    states: Any
    """Shapes of what `init` returns."""
    found: Reconstruction
    """Shapes of one start's reconstruction."""
    divided: NamedSharding | None
    """How keys, options and states lie on the devices; None is the default device."""
    shared: NamedSharding | None
    """How the observation and the count do."""


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
    own: tuple[str, ...] = (),
    mesh: Mesh | None = None,
) -> Program:
    """Traces one start, decides how many fit, and compiles for so many.

    Args:
      make: `(**options) -> Attack`, of one start.
      key: one, for its shape.
      options: shapes of one start's hyper-parameters.
      observation: of one client, for its shapes.
      num: starts wanted in all.
      chunk: starts to compile for; None lets `jaxinv.memory` decide.
      precision: of the steps, see `jaxinv.precision`; the caller is within its
        `numerics`.
      certifies: whether the attack has something to say of its winner.
      own: fields of the observation of which each start has its own, such as "update"
        and "known" of clients that were all sent the same params; their leaves then
        carry a leading axis `[chunk]` in what the compiled functions take.
      mesh: of one axis, over whose devices the starts are divided; the chunk is then a
        multiple of their number. None is the default device.
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
    axes = _axes(observation, own)
    moving = len(leaves) + len(jax.tree.leaves(_fields(observation, own)))
    devices = 1 if mesh is None else mesh.size
    share = min(-(-num // devices), _share(chunk, devices, closed, moving, num))

    run_step = rounded(precision, closed)

    def traced(observation: Observation, state: Any) -> Any:
        args = [*jax.tree.leaves(observation), *jax.tree.leaves(state)]
        *state, score = run_step(*args)
        return jax.tree.unflatten(structure, state), score

    def each(f: Callable) -> Callable:
        if share > 1:
            return jax.vmap(f, (axes, 0))

        # One start without the axis, so that no product becomes a batched one.
        def alone(observation: Observation, states: Any) -> Any:
            mine = jax.tree.map(lambda x: x[0], _fields(observation, own))
            observation = dataclasses.replace(observation, **mine)
            out = f(observation, jax.tree.map(lambda x: x[0], states))
            return jax.tree.map(lambda x: x[None], out)

        return alone

    def advance(observation: Observation, states: Any, count: jax.Array) -> Any:
        def body(_: jax.Array, carry: Any) -> Any:
            return each(traced)(observation, carry[0])

        worst = jnp.full((share,), jnp.inf, score.dtype)
        return jax.lax.fori_loop(0, count, body, (states, worst))

    def certify(observation: Observation, options: Any, found: Reconstruction) -> Any:
        certify_ = make(**options).certify
        assert certify_ is not None
        return certify_(observation, found)

    def many(x: Any) -> jax.ShapeDtypeStruct:
        shape = (share * devices, *x.shape)
        return jax.ShapeDtypeStruct(shape, x.dtype, sharding=divided)

    divided = shared = None
    if mesh is not None:
        divided = NamedSharding(mesh, PartitionSpec(*mesh.axis_names))
        shared = NamedSharding(mesh, PartitionSpec())

    def alike(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=shared)

    def compiled(f: Callable, *args: Any, **kwargs: Any) -> Callable:
        if mesh is not None:
            # No device needs another: each runs the program on its own starts.
            starts = PartitionSpec(*mesh.axis_names)
            seen = jax.tree.map(
                lambda axis: PartitionSpec() if axis is None else starts,
                axes,
                is_leaf=lambda axis: axis is None,
            )
            rest = [PartitionSpec()] * (len(args) - 1)
            specs = (seen, starts, *rest)
            f = jax.shard_map(
                f, mesh=mesh, in_specs=specs, out_specs=starts, check_vma=False
            )
        return jax.jit(f, **kwargs).lower(sent, *args).compile()

    sent = jax.tree.map(alike, observation)
    each_one = jax.tree.map(many, _fields(observation, own))
    sent = dataclasses.replace(sent, **each_one)
    starts = jax.tree.map(many, (key, options))
    states, found = jax.tree.map(many, one), jax.eval_shape(finish, observation, one)
    count = jax.ShapeDtypeStruct((), jnp.int32, sharding=shared)
    return Program(
        share * devices,
        compiled(each(init), starts),
        # Donated: the states of a batch of starts are held once, not twice.
        compiled(advance, states, count, donate_argnums=1),
        compiled(each(finish), states),
        jax.jit(certify).lower(observation, one[0], found).compile()
        if certifies
        else None,
        sum(x.size * x.dtype.itemsize for x in leaves),
        states,
        found,
        divided,
        shared,
    )


def _share(chunk: int | None, devices: int, closed: Any, moving: int, num: int) -> int:
    """Starts of one device."""
    if chunk is not None:
        return max(1, chunk // devices)
    return starts_at_once(closed, moving, -(-num // devices))


def _axes(observation: Observation, own: tuple[str, ...]) -> Any:
    """Over what `vmap` maps, as a prefix of the observation."""
    if not own:
        return None
    none = jax.tree.map(lambda _: None, observation)
    mapped = jax.tree.map(lambda _: 0, _fields(observation, own))
    return dataclasses.replace(none, **mapped)


def _fields(observation: Observation, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(observation, name) for name in names}
