"""Arrays out of a `.npz` archive that nobody vouches for, never through pickle.

Shapes and element types are taken from the `.npy` headers inside the archive and
checked before any array is allocated, so a small file cannot claim a large memory.
"""

import errno
import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from jaxinv.data.bounded import check_bytes
from jaxinv.errors import InputError

# What zipfile, zlib and NumPy raise on a damaged archive.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    SyntaxError,
    OverflowError,
    MemoryError,
    RuntimeError,
)


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, for as long as the context lasts.

    Raises:
      InputError: it turns out to be damaged, there or inside the context.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except InputError:
        raise
    except (OSError, *_DAMAGED) as error:
        # An offset below zero ends in EINVAL; of the rest the system knows more.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"not a readable .npz archive ({reason})") from error


def names(archive: zipfile.ZipFile) -> list[str]:
    """Of the arrays it holds."""
    return [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]


def header(archive: zipfile.ZipFile, key: str) -> tuple[tuple, np.dtype, int]:
    """Shape, element type and bytes that the array `key` declares.

    Raises:
      InputError: it holds objects, or sizes that are wrong or above the limit.
    """
    info = archive.getinfo(f"{key}.npy")
    with archive.open(info) as stream, warnings.catch_warnings():
        # NumPy warns on headers written by Python 2; they are as good.
        warnings.simplefilter("ignore")
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise InputError(f"{key} is of .npy version {version}, expected 1.0 or 2.0")
        body = info.file_size - stream.tell()
    if dtype.hasobject:
        raise InputError(f"{key} holds pickled Python objects, expected plain numbers")
    if any(length < 0 for length in shape):
        raise InputError(f"{key} declares a negative length")
    # An element of zero bytes still costs memory once it becomes a Python string.
    size = math.prod(shape) * max(dtype.itemsize, 1)
    check_bytes(size, f"array {key!r}")
    if size != body and dtype.itemsize:
        raise InputError(f"{key} declares {size} bytes of data but {body} are stored")
    return shape, dtype, size


def array(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    """The array `key`, whose header was checked."""
    with archive.open(f"{key}.npy") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.lib.format.read_array(stream, allow_pickle=False)
