"""What a file declares of its tensors, checked before anything is allocated for them.

Every reader passes each tensor through one `Declared`, which counts them and adds up
their sizes. Names come from whoever wrote the file and end up in messages and reports.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import ml_dtypes
import numpy as np

from jaxinv.data.bounded import check_bytes
from jaxinv.errors import InputError

MAX_TENSORS = 10_000
"""Tensors of one file."""
MAX_NAME = 300
"""Characters of a name."""
MAX_DIMS = 8
"""Axes of a tensor."""

DTYPES: dict[str, np.dtype] = {
    name: np.dtype(name)
    for name in (
        *("float64", "float32", "float16", "bool"),
        *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
    )
} | {"bfloat16": np.dtype(ml_dtypes.bfloat16)}
"""Element types that are read, by name."""


class Declared:
    """The tensors that one file has declared so far."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._bytes = 0

    def __call__(self, name: object, shape: Iterable[object], dtype: object) -> int:
        """Takes one more tensor into account.

        Args:
          name: what the file calls it.
          shape: its lengths.
          dtype: a key of `DTYPES`.

        Returns:
          Its bytes.

        Raises:
          InputError: the name is no plain name or was there before, the shape or the
            type is none, or the file grows above a limit.
        """
        name = checked_name(name)
        if name in self._names:
            raise InputError(f"tensor {name!r} is there twice; expected each name once")
        self._names.add(name)
        if len(self._names) > MAX_TENSORS:
            raise InputError(f"holds more than the limit of {MAX_TENSORS:,} tensors")
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise InputError(
                f"tensor {name!r} is {_short(dtype)}; expected one of "
                f"{', '.join(DTYPES)}"
            )
        lengths = list(shape)
        if len(lengths) > MAX_DIMS:
            raise InputError(
                f"tensor {name!r} has {len(lengths)} axes; expected at most {MAX_DIMS}"
            )
        if not all(type(n) is int and 0 <= n < 2**48 for n in lengths):
            raise InputError(
                f"tensor {name!r} has a shape of {_short(lengths)}; expected lengths "
                "of 0 or more"
            )
        size = math.prod(lengths) * DTYPES[dtype].itemsize  # pyright: ignore
        self._bytes += size
        check_bytes(self._bytes, f"tensor {name!r}")
        return size


def checked_name(name: object) -> str:
    """The name, if a report can print it and nobody can take it for a way out.

    Raises:
      InputError: it is no text, empty, too long, not printable, or a path that is
        absolute or climbs.
    """
    if isinstance(name, bytes):
        name = name.decode("utf-8", "replace")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise InputError(
            f"a tensor's name is {_short(name)}; expected 1 to {MAX_NAME} characters"
        )
    parts = name.replace("\\", "/").split("/")
    if not name.isprintable() or ".." in parts or name[0] in "/\\":
        raise InputError(f"a tensor's name is {_short(name)}; expected a plain name")
    return name


def _short(value: object) -> str:
    """What a file gave, for one line; a hostile file can give it any length."""
    text = (
        ascii(value)
        if isinstance(value, (str, bytes, int, list))
        else repr(type(value).__name__)
    )
    return text if len(text) <= 60 else text[:57] + "..."
