"""Reads a folder that `orbax.checkpoint` wrote.

What it holds is asked first, without reading an array, and held against the limits.
That is done by a process of its own: orbax reads by the threads of a large library of
C++, which print what they like of a damaged folder and may outlive the error.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxinv.data.bounded import check_bytes
from jaxinv.errors import InputError
from jaxinv.exchange.declared import MAX_TENSORS, Declared, checked_name
from jaxinv.exchange.from_msgpack import read_msgpack

MAX_FILES = 100_000
"""Entries of the folder."""
MAX_SECONDS = 300
"""Until a reader is given up."""
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
    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "tensors.msgpack")
        words = [
            sys.executable,
            "-m",
            "jaxinv.exchange.from_orbax",
            str(folder.absolute()),
            str(out),
        ]
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths}
        try:
            done = subprocess.run(
                words, env=environment, capture_output=True, timeout=MAX_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise InputError(
                f"could not be read by orbax within {MAX_SECONDS} seconds"
            ) from None
        if done.returncode == 2:
            raise InputError(done.stdout.decode("utf-8", "replace").strip()[:300])
        if done.returncode:
            raise InputError(
                f"not a readable folder of orbax (its reader ended with "
                f"{done.returncode})"
            )
        return read_msgpack(out)


def tensors_in(folder: Path) -> dict[str, np.ndarray]:
    """The same, read in this process, of a folder whose entries were checked.

    Raises:
      InputError: as `read_orbax`.
    """
    import orbax.checkpoint as ocp

    with _readable():
        reader = ocp.PyTreeCheckpointer()
        told: Any = reader.metadata(folder.absolute())
        tree = getattr(told, "item_metadata", told)
        tree = getattr(tree, "tree", tree)
        _check_declared(jax.tree_util.tree_flatten_with_path(tree)[0])
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


def _main() -> int:
    """`python -m jaxinv.exchange.from_orbax FOLDER OUT`: 2 and a line if refused."""
    from flax.serialization import msgpack_serialize

    folder, out = map(Path, sys.argv[1:])
    try:
        out.write_bytes(msgpack_serialize(tensors_in(folder)))
    except InputError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    # At once: tensorstore's threads may still wait for what will not come.
    code = _main()
    sys.stdout.flush()
    os._exit(code)
