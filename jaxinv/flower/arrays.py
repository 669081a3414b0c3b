"""Flower's arrays as parameters, and back.

What travels is an `ArrayRecord`, named arrays in an order. A client that was written
against lists of arrays leaves generated names, "0", "1" and so on, and the order is all
there is; `in_order` puts such a list back into a tree. A function from the dict of
arrays to parameters does for anything else.
"""

from __future__ import annotations

import io
import math
import tokenize
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict

from jaxinv.data.bounded import check_bytes
from jaxinv.errors import InputError
from jaxinv.target import Params

_Record = TypeVar("_Record")

ToParams = Callable[[dict[str, np.ndarray]], Params]
"""`(arrays by name, in the record's order) -> params`, `Variables` where the model has
more than what is trained. It may raise `InputError`."""


def record_of(content: RecordDict, name: str, kind: type[_Record]) -> _Record | None:
    """The record of that name and kind in a message, or None.

    `content.array_records` and the like say the same and walk through all records.
    """
    found = content.get(name)
    return found if isinstance(found, kind) else None


def read_arrays(
    record: Mapping[str, Array], *, like: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """The arrays of a record, checked before any of them is allocated.

    Args:
      record: an `ArrayRecord` that somebody else wrote.
      like: arrays whose names and shapes it has to have, such as those that were sent.
        They come back in the order of these.

    Raises:
      InputError: an array is missing, is no NumPy array, holds objects, or has another
        shape or size than it says or than `like` has.
    """
    if like is not None and record.keys() != like.keys():
        wrong = sorted(record.keys() ^ like.keys())
        raise InputError(
            f"arrays differ from those that were sent in {', '.join(wrong[:3])}; "
            "expected the same names"
        )
    names = record if like is None else like
    expected = {} if like is None else {name: like[name].shape for name in names}
    return {name: _read(name, record[name], expected.get(name)) for name in names}


def in_order(params: Params) -> ToParams:
    """A map of arrays whose names are lost: the order of the leaves of `params`.

    Args:
      params: a tree of the model's structure and shapes; its numbers do not count.
        Its leaves are in the order of `jax.tree.leaves`, which sorts dicts by name.
    """
    leaves, structure = jax.tree.flatten(params)
    shapes = [np.shape(leaf) for leaf in leaves]

    def to_params(arrays: dict[str, np.ndarray]) -> Params:
        found = [array.shape for array in arrays.values()]
        if found != shapes:
            raise InputError(
                f"arrays have shapes {found}; expected {shapes}, the leaves of params "
                "in order"
            )
        return jax.tree.unflatten(structure, list(arrays.values()))

    return to_params


def arrays_of(params: Params) -> ArrayRecord:
    """A record that `in_order` reads: the leaves of a tree, named by their number."""
    return ArrayRecord([np.asarray(leaf) for leaf in jax.tree.leaves(params)])


def _read(name: str, array: Array, expected: tuple[int, ...] | None) -> np.ndarray:
    if array.stype != "numpy.ndarray":
        raise InputError(f"array {name!r} is {array.stype!r}; expected 'numpy.ndarray'")
    stream = io.BytesIO(array.data)
    shape, dtype = _header(name, stream)
    # Lists of arrays (`NumPyClient`) come without types and shapes beside the data.
    said = tuple(array.shape) if array.dtype else shape
    if shape != said or dtype.hasobject:
        raise InputError(
            f"array {name!r} holds {dtype} of shape {shape}; expected numbers of shape "
            f"{said}, as it says"
        )
    if expected is not None and shape != expected:
        raise InputError(f"array {name!r} has shape {shape}; expected {expected}")
    size, stored = math.prod(shape) * dtype.itemsize, len(array.data) - stream.tell()
    check_bytes(size, f"array {name!r}")
    if size != stored:
        raise InputError(f"array {name!r} holds {stored} bytes; expected {size}")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _header(name: str, stream: io.BytesIO) -> tuple[tuple[int, ...], Any]:
    readers: dict[Any, Callable] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        shape, _, dtype = readers[np.lib.format.read_magic(stream)](stream)
    # Python's own parser reads the header, and runs out of stack on a deep one.
    except (
        ValueError,
        KeyError,
        SyntaxError,
        TypeError,
        OverflowError,
        MemoryError,
        RecursionError,
        tokenize.TokenError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"array {name!r} is not readable ({reason}); expected a NumPy array"
        ) from None
    return shape, dtype
