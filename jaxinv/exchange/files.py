"""Tensors from a file of any format that is read, by its name and its first bytes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from jaxinv.errors import InputError
from jaxinv.exchange import from_safetensors
from jaxinv.exchange.from_msgpack import read_msgpack
from jaxinv.exchange.from_npz import read_npz
from jaxinv.exchange.from_orbax import read_orbax
from jaxinv.exchange.from_safetensors import read_safetensors

FORMATS = ("safetensors", "npz", "msgpack (flax)", "a folder of orbax")
"""What is read, for messages."""

_READERS = {
    ".safetensors": read_safetensors,
    ".npz": read_npz,
    ".msgpack": read_msgpack,
}
_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin")


def read_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Every tensor of a file, by its name there.

    Nothing in the file is run or believed: there is no pickle, and names, types and
    sizes are checked before memory is asked for.

    Args:
      path: of a `.safetensors`, `.npz` or `.msgpack` file, or a folder of orbax.

    Returns:
      Arrays as they are stored, bfloat16 included; names of nested formats are joined
      with "/".

    Raises:
      InputError: it is not there, of no format that is read, damaged, or above a limit
        of `jaxinv.exchange.declared` or `jaxinv.data.bounded`.
    """
    path = Path(path)
    try:
        found = _reader(path)(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{str(path)!r}: {reason}") from None
    except InputError as error:
        raise InputError(f"{str(path)!r}: {error}") from None
    except MemoryError:
        raise InputError(f"{str(path)!r}: does not fit into this memory") from None
    if not found:
        raise InputError(f"{str(path)!r}: holds no tensors")
    return found


def _reader(path: Path):
    if path.is_dir():
        return read_orbax
    if not path.is_file():
        # Opening a pipe would wait for ever.
        raise InputError("no such file" if not path.exists() else "is no plain file")
    with path.open("rb") as stream:
        start = stream.read(16)
    suffix = path.suffix.lower()
    if suffix in _READERS:
        return _READERS[suffix]
    if start.startswith(b"PK\x03\x04"):
        return read_npz
    if suffix in _PICKLES or start.startswith(b"\x80"):
        raise InputError(
            "is a pickle, which runs code when it is read; expected "
            "safetensors.torch.save_file(model.state_dict(), 'name.safetensors')"
        )
    if from_safetensors.looks_like(start):
        return read_safetensors
    raise InputError(f"is of no format that is read; expected {', '.join(FORMATS)}")
