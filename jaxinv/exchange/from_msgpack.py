"""Reads what `flax.serialization` writes: msgpack with arrays as extension types.

The layout is that of flax, serialization.py: extension 1 is an array, itself a msgpack
of (shape, type's name, bytes), extension 3 a scalar in the same form; an array of more
than 2^30 bytes is a map of chunks. Read here anew, for flax's reader believes whatever
lengths a file declares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from jaxinv.data.bounded import read_bytes
from jaxinv.errors import InputError
from jaxinv.exchange.declared import DTYPES, MAX_TENSORS, Declared, checked_name

MAX_DEPTH = 32
"""Maps within maps."""

_ARRAY, _SCALAR = 1, 3
_CHUNKED = "__msgpack_chunked_array__"
# Lists occur as shapes alone, so that a bomb of nested lists stays small.
_LIMITS = {
    "max_array_len": 64,
    "max_map_len": MAX_TENSORS,
    "strict_map_key": True,
    "raw": False,
}


def read_msgpack(path: Path) -> dict[str, np.ndarray]:
    """Every array by the path to it, joined with "/".

    Raises:
      InputError: it is damaged, not of flax, or declares what is above a limit.
      OSError: the system refuses to read it.
    """
    return tensors_of(read_bytes(path))


def tensors_of(content: bytes) -> dict[str, np.ndarray]:
    """The same of a file's content."""
    declared = Declared()
    tree = _unpacked(content, ext_hook=_Packed, object_pairs_hook=_once)
    found: dict[str, np.ndarray] = {}
    stack: list[tuple[str, Any, int]] = [("", tree, 0)]
    while stack:
        path, node, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise InputError(f"nests deeper than the limit of {MAX_DEPTH}")
        if isinstance(node, dict) and _CHUNKED not in node:
            for key, entry in node.items():
                name = checked_name(key)
                stack.append((f"{path}/{name}" if path else name, entry, depth + 1))
        elif isinstance(node, dict):
            found[path] = _joined(path, node, declared)
        elif isinstance(node, _Packed):
            found[path] = _array(path, node, declared)
        elif node is not None and not isinstance(node, (bool, int, float)):
            raise InputError(
                f"{path[:60]!r} is a {type(node).__name__}; expected arrays in maps"
            )
        if len(stack) > MAX_TENSORS:
            raise InputError(f"holds more than the limit of {MAX_TENSORS:,} entries")
    return found


class _Packed:
    """An extension, not yet looked into."""

    def __init__(self, code: int, data: bytes) -> None:
        self.code, self.data = code, data


def _unpacked(content: bytes, **hooks: Any) -> Any:
    try:
        return msgpack.unpackb(content, **{**_LIMITS, **hooks})
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise InputError(f"not a readable msgpack file of flax ({reason})") from None


def _array(path: str, packed: _Packed, declared: Declared) -> np.ndarray:
    parts = None
    if packed.code in (_ARRAY, _SCALAR):
        parts = _unpacked(packed.data, raw=True, ext_hook=_Packed)
    if not isinstance(parts, list) or len(parts) != 3 or not isinstance(parts[0], list):
        raise InputError(f"{path[:60]!r} is no array as flax writes it")
    shape, dtype, content = parts
    dtype = dtype.decode("ascii", "replace") if isinstance(dtype, bytes) else dtype
    size = declared(path, shape, dtype)
    if not isinstance(content, bytes) or len(content) != size:
        raise InputError(f"{path!r} declares {size} bytes and does not have them")
    return np.frombuffer(content, DTYPES[dtype]).reshape(shape)


def _joined(path: str, node: dict[str, Any], declared: Declared) -> np.ndarray:
    """An array that was cut into flat chunks."""
    shape, chunks = (node.get(key) for key in ("shape", "chunks"))
    if not isinstance(shape, dict) or not isinstance(chunks, dict) or not chunks:
        raise InputError(f"{path[:60]!r} is no array in chunks as flax writes it")
    parts = []
    for index in range(len(chunks)):
        packed = chunks.get(str(index))
        if not isinstance(packed, _Packed):
            raise InputError(f"{path[:60]!r} lacks its chunk {index}")
        parts.append(_array(f"{path}/{index}", packed, declared).reshape(-1))
    lengths = [shape.get(str(axis)) for axis in range(len(shape))]
    name = parts[0].dtype.name
    size = declared(path, lengths, name)
    if any(part.dtype.name != name for part in parts) or size != sum(
        part.nbytes for part in parts
    ):
        raise InputError(f"{path[:60]!r} has chunks that do not make up its shape")
    return np.concatenate(parts).reshape(lengths)  # pyright: ignore


def _once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise InputError("a map has one name twice; expected each name once")
    return table
