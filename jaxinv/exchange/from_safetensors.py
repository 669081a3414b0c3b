"""Reads safetensors: a length, a JSON header of names, types and places, the numbers.

https://huggingface.co/docs/safetensors. The `safetensors` package decodes it, after the
header was held against the limits: the package trusts sizes up to that of the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from jaxinv.data.bounded import read_bytes
from jaxinv.errors import InputError
from jaxinv.exchange.declared import DTYPES, Declared

MAX_HEADER = 4 * 2**20
"""Bytes of a header."""

_CODES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "BOOL": "bool",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
}


def looks_like(start: bytes) -> bool:
    """Whether a file that begins so is safetensors: 8 bytes of length, then JSON."""
    return len(start) > 8 and start[8:9] == b"{"


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Every tensor by its name.

    Raises:
      InputError: it is damaged, or declares what is wrong or above a limit.
      OSError: the system refuses to read it.
    """
    content = read_bytes(path)
    check_header(content)
    try:
        found = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise InputError(f"not a readable safetensors file ({error})") from None
    return {
        name: np.frombuffer(entry["data"], DTYPES[_CODES[entry["dtype"]]]).reshape(
            entry["shape"]
        )
        for name, entry in found
    }


def check_header(content: bytes) -> None:
    """Refuses a file whose header does not describe what follows it.

    Raises:
      InputError: says what is wrong with it.
    """
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(MAX_HEADER, len(content) - 8):
        raise InputError(
            f"not a safetensors file: its header is longer than the file or than "
            f"{MAX_HEADER:,} bytes"
        )
    try:
        header = json.loads(content[8 : 8 + length], object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise InputError("not a safetensors file: its header is no JSON") from None
    if not isinstance(header, dict):
        raise InputError("not a safetensors file: its header is no table")
    declared, body = Declared(), len(content) - 8 - length
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        fields = entry if isinstance(entry, dict) else {}
        shape, code, place = (
            fields.get(key) for key in ("shape", "dtype", "data_offsets")
        )
        if place is None or not isinstance(shape, list) or not _is_place(place, body):
            raise InputError(
                f"tensor {name[:60]!r} lacks a shape or a place in the file"
            )
        start, end = place
        known = isinstance(code, str) and code in _CODES
        size = declared(name, shape, _CODES[str(code)] if known else code)
        if size != end - start:
            raise InputError(
                f"tensor {name!r} declares {size} bytes and has {end - start}"
            )


def _is_place(place: Any, body: int) -> bool:
    pair = isinstance(place, list) and len(place) == 2
    return (
        pair
        and all(type(n) is int for n in place)
        and 0 <= place[0] <= place[1] <= body
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A table in which no name stands twice: readers differ in which one they take."""
    table = dict(pairs)
    if len(table) != len(pairs):
        raise InputError("its header names a tensor twice; expected each name once")
    return table
