"""Where the starts of a sweep run: one device, all of a machine, or several machines.

Every process runs the same program on a mesh of all devices, each on the starts of its
own; results are gathered on every host, so that all keep the same books and the first
alone writes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxinv.errors import InputError

AXIS = "starts"

HEARTBEAT_S = 30
"""After which a process that says nothing is lost; JAX then ends the others."""


class LostProcessError(RuntimeError):
    """Another process of the sweep is gone; who starts all of them again goes on."""


def mesh_of_all() -> Mesh | None:
    """All devices of all processes in one row; None where there is one device."""
    return Mesh(np.array(jax.devices()), (AXIS,)) if jax.device_count() > 1 else None


def sharding(mesh: Mesh | None, *, divided: bool) -> NamedSharding | None:
    """How an array lies on the mesh: divided by its leading axis, or on all alike."""
    spec = PartitionSpec(AXIS) if divided else PartitionSpec()
    return None if mesh is None else NamedSharding(mesh, spec)


def is_first() -> bool:
    """Whether this process writes."""
    return jax.process_index() == 0


def placed(tree: Any, mesh: Mesh | None, *, divided: bool) -> Any:
    """Arrays of the host on the devices; every process gives the same ones."""
    where = sharding(mesh, divided=divided)
    if where is None:
        return jax.tree.map(jnp.asarray, tree)

    def place(leaf: Any) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            wrap = jax.jit(jax.random.wrap_key_data, out_shardings=where)
            return wrap(place(np.asarray(jax.random.key_data(leaf))))
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, where, lambda at: host[at])

    return jax.tree.map(place, tree)


def gathered(tree: Any) -> Any:
    """Arrays of the devices on every host, whole."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def exchanged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of every process on each, in their order; of values that JSON has."""
    if jax.process_count() == 1:
        return rows
    text = np.frombuffer(json.dumps(rows).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array(text.size))
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: text.size] = text
    texts = multihost_utils.process_allgather(padded)
    pairs = zip(texts, lengths, strict=True)
    return [row for one, n in pairs for row in json.loads(one[:n].tobytes())]


def agreed(decide: Callable[[], bool]) -> bool:
    """What the first process decides, for all."""
    if jax.process_count() == 1:
        return decide()
    chosen = np.asarray(is_first() and decide())
    return bool(multihost_utils.broadcast_one_to_all(chosen))


@contextlib.contextmanager
def noticing_loss() -> Iterator[None]:
    """Says so where another process is gone, which JAX shows in many ways.

    Raises:
      LostProcessError: what was raised inside came of that.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        raise LostProcessError(
            "a process of the sweep was lost; start all of them again, and they go on "
            "from the last checkpoint"
        ) from error


def together(name: str) -> None:
    """Waits until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def plain(tree: Any) -> list[jax.Array]:
    """The leaves of states with their random keys as numbers, for a file."""

    def numbers(leaf: jax.Array) -> jax.Array:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return [_kept(numbers)(leaf) for leaf in jax.tree.leaves(tree)]


def from_plain(leaves: list[jax.Array], like: Any) -> Any:
    """States from what `plain` made of them.

    Args:
      leaves: on the devices.
      like: shapes of the states, `Program.states`.

    Raises:
      ValueError: they are no such states.
    """
    shapes, structure = jax.tree.flatten(like)
    if len(shapes) != len(leaves):
        raise ValueError(f"{len(leaves)} arrays for states of {len(shapes)}")

    def restored(leaf: jax.Array, shape: jax.ShapeDtypeStruct) -> jax.Array:
        if jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
            wrap = jax.jit(jax.random.wrap_key_data, out_shardings=shape.sharding)
            return wrap(leaf)
        if leaf.shape != shape.shape or leaf.dtype != shape.dtype:
            raise ValueError(f"{leaf.shape} {leaf.dtype} where {shape} was expected")
        return leaf

    pairs = zip(leaves, shapes, strict=True)
    return jax.tree.unflatten(structure, [restored(*pair) for pair in pairs])


def _kept(f: Callable) -> Callable:
    return f if jax.process_count() == 1 else jax.jit(f)


def join(
    coordinator: str | None = None,
    processes: int | None = None,
    this: int | None = None,
) -> None:
    """Joins the other processes; to be called before anything is computed.

    Args:
      coordinator: "HOST:PORT" of the first process; None takes what SLURM, Kubernetes
        or a TPU pod says.
      processes: how many.
      this: which of them this is, from 0 on.

    Raises:
      InputError: nobody says who the others are, or they cannot be reached.
    """
    try:
        jax.distributed.initialize(
            coordinator, processes, this, heartbeat_timeout_seconds=HEARTBEAT_S
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the processes cannot join: {error}; expected SLURM, Kubernetes or a TPU "
            "pod, or --coordinator, --processes and --process"
        ) from None
