"""Checkpoints of a sweep: where it is, and the states of the starts on their way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Sharding

from jaxinv.errors import InputError

KEPT = 2
"""So that a damaged last one leaves the one before."""


class Checkpoints:
    """A folder of them, the last `KEPT`."""

    def __init__(self, folder: Path) -> None:
        """Takes the folder; orbax makes it."""
        self._folder = folder
        options = ocp.CheckpointManagerOptions(
            max_to_keep=KEPT, enable_async_checkpointing=False
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(
        self,
        sequence: int,
        position: Mapping[str, Any],
        items: Mapping[str, Sequence[Any]],
    ) -> None:
        """Writes one; a reader meets all of it or nothing.

        Args:
          sequence: larger than those before.
          position: what JSON can say.
          items: lists of arrays by name, JAX's or NumPy's; of an array that several
            processes hold each writes its part.
        """
        content: dict[str, Any] = {}
        described = {}
        for name, arrays in items.items():
            if arrays:
                content[name] = ocp.args.StandardSave(_named(arrays))  # pyright: ignore
                shapes = [[list(x.shape), str(x.dtype)] for x in arrays]
                described[name] = {"shapes": shapes, "digest": _digest(arrays)}
        meta = {"position": dict(position), "items": described}
        content["meta"] = ocp.args.JsonSave(meta)  # pyright: ignore
        self._manager.save(sequence, args=ocp.args.Composite(**content))
        self._manager.wait_until_finished()

    def last(
        self, wanted: Callable[[dict[str, Any]], Mapping[str, Sharding | None]]
    ) -> tuple[int, dict[str, Any], dict[str, list[Any]]] | None:
        """The last one that is whole; None where there is none.

        Args:
          wanted: `(position) -> {name: sharding}`, which items to read, if there.

        Returns:
          Sequence, position and items. Those after it are removed.

        Raises:
          InputError: there are checkpoints and none can be read; they stay.
          OSError: the system refuses to read one.
        """
        damaged: list[int] = []
        for sequence in sorted(self._manager.all_steps(), reverse=True):
            try:
                found = self._read(sequence, wanted)
            except Exception as error:
                missing = isinstance(error, FileNotFoundError)
                if isinstance(error, (OSError, MemoryError)) and not missing:
                    # The machine's trouble, not the checkpoint's.
                    raise
                # Whatever a damaged file makes orbax raise, this one is no good.
                damaged.append(sequence)
                reason = error
                continue
            for number in damaged:
                self._manager.delete(number)
            return sequence, *found
        if damaged:
            raise InputError(
                f"no checkpoint in {self._folder} can be read ({_line(reason)}); "
                "expected one that is whole. Nothing was changed"
            )
        return None

    def _read(
        self,
        sequence: int,
        wanted: Callable[[dict[str, Any]], Mapping[str, Sharding | None]],
    ) -> tuple[dict[str, Any], dict[str, list[Any]]]:
        meta = self._item(sequence, meta=ocp.args.JsonRestore())
        position, found = meta["position"], {}
        for name, sharding in wanted(position).items():
            if name not in meta["items"]:
                continue
            like = [
                jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype), sharding=sharding)
                for shape, dtype in meta["items"][name]["shapes"]
            ]
            restore = ocp.args.StandardRestore(_named(like))  # pyright: ignore
            named = self._item(sequence, **{name: restore})
            found[name] = [named[key] for key in _named(like)]
            digest = meta["items"][name]["digest"]
            if digest and _digest(found[name]) not in (digest, ""):
                raise ValueError(f"{name} is damaged")
        return position, found

    def _item(self, sequence: int, **args: Any) -> Any:
        # Else what was written in float64 would come back narrower.
        with jax.enable_x64(True):
            restored = self._manager.restore(sequence, args=ocp.args.Composite(**args))
        return restored[next(iter(args))]

    def close(self) -> None:
        """Ends orbax's own threads."""
        self._manager.close()


def _named(arrays: Sequence[Any]) -> dict[str, Any]:
    return {f"{number:05d}": leaf for number, leaf in enumerate(arrays)}


def _digest(arrays: Sequence[Any]) -> str:
    """Of all bytes, where this process has them all; else nothing is compared."""
    digest = hashlib.sha256()
    for leaf in arrays:
        if not getattr(leaf, "is_fully_addressable", True):
            return ""
        host = np.ascontiguousarray(leaf)
        digest.update(f"{host.dtype}{host.shape}".encode())
        digest.update(host.tobytes())
    return digest.hexdigest()


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
