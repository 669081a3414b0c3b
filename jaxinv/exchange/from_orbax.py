"""Reads a folder that `orbax.checkpoint` wrote.

What it holds is asked first, without reading an array, and held against the limits.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxinv.data.bounded import check_bytes
from jaxinv.errors import InputError
from jaxinv.exchange.declared import MAX_TENSORS, Declared, checked_name

MAX_FILES = 100_000
"""Entries of the folder."""
MAX_DESCRIPTION = 16 * 2**20
"""Bytes of a file that describes what the others hold."""


def read_orbax(folder: Path) -> dict[str, np.ndarray]:
    """Every array by the path to it, joined with "/".

    Raises:
      InputError: it is no such folder or damaged, a link in it leads anywhere, or it
        declares what is above a limit.
      OSError: the system refuses to read it.
    """
    _check_entries(folder)
    # Imported here: it takes a second, which other formats need not wait.
    import orbax.checkpoint as ocp

    with _quiet(), _readable():
        reader = ocp.PyTreeCheckpointer()
        told: Any = reader.metadata(folder.absolute())
        tree = getattr(told, "item_metadata", told)
        tree = getattr(tree, "tree", tree)
        named = jax.tree_util.tree_flatten_with_path(tree)[0]
        _check_declared(named)
        wanted = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        found = reader.restore(folder.absolute(), restore_args=wanted)
        leaves = jax.tree_util.tree_flatten_with_path(found)[0]
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def _check_entries(folder: Path) -> None:
    """No links, for they may lead out of the folder, and nothing but plain files."""
    if not any(
        (folder / name).is_file() for name in ("_METADATA", "default/_METADATA")
    ):
        raise InputError("is a folder and none of orbax: it lacks the file _METADATA")
    count = 0
    for root, folders, names in os.walk(folder):
        for name in (*folders, *names):
            entry, count = Path(root, name), count + 1
            if count > MAX_FILES:
                raise InputError(f"holds more than the limit of {MAX_FILES:,} entries")
            if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
                raise InputError(
                    f"holds {ascii(name)[:60]}, a link or no plain file; expected the "
                    "folder as orbax wrote it"
                )
            size = entry.stat().st_size
            limit = MAX_DESCRIPTION if name.startswith(("_", ".")) else None
            if limit is not None and entry.is_file() and size > limit:
                raise InputError(f"{name!r} is above the limit of {limit:,} bytes")
            check_bytes(size, ascii(name)[:60])


def _check_declared(named: list[tuple[Any, Any]]) -> None:
    if not named:
        raise InputError("holds no arrays")
    if len(named) > MAX_TENSORS:
        raise InputError(f"holds more than the limit of {MAX_TENSORS:,} tensors")
    declared = Declared()
    for path, leaf in named:
        shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
        if shape is None or dtype is None:
            raise InputError(f"{_name(path)!r} is no array")
        declared(_name(path), list(shape), np.dtype(dtype).name)
        storage = getattr(leaf, "storage", None)
        # A part is read whole, however little of it belongs to the array.
        part = getattr(storage, "chunk_shape", None)
        if part is not None:
            Declared()(_name(path), list(part), np.dtype(dtype).name)


def _name(path: Any) -> str:
    words = [getattr(p, "key", getattr(p, "idx", getattr(p, "name", p))) for p in path]
    return "/".join(checked_name(str(word)) for word in words)


@contextmanager
def _readable() -> Iterator[None]:
    """Whatever a damaged folder makes orbax raise, as one line."""
    try:
        yield
    except (InputError, KeyboardInterrupt):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"not a readable folder of orbax ({reason})") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without orbax's own warnings, such as that it saw no sharding."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
