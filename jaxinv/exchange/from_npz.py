"""Reads NumPy's `.npz`, by `jaxinv.data.archive`: never through pickle."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import numpy as np

from jaxinv.data.archive import array, header, open_archive
from jaxinv.errors import InputError
from jaxinv.exchange.declared import MAX_TENSORS, Declared


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Every array by its name; nothing is unpacked to disk.

    Raises:
      InputError: it is damaged, holds something else than plain arrays, or declares
        what is above a limit.
      OSError: the system refuses to read it.
    """
    with open_archive(path) as archive:
        keys = [_checked(info) for info in _members(archive)]
        declared = Declared()
        for key in keys:
            shape, dtype, _ = header(archive, key)
            declared(key, shape, dtype.newbyteorder("=").name)
        return {key: _native(array(archive, key)) for key in keys}


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = archive.infolist()
    if len(members) > MAX_TENSORS:
        raise InputError(f"holds more than the limit of {MAX_TENSORS:,} files")
    if any(info.filename.endswith("data.pkl") for info in members):
        raise InputError(
            "is a pickle of PyTorch, which runs code when it is read; expected "
            "safetensors.torch.save_file(model.state_dict(), 'name.safetensors')"
        )
    return members


def _checked(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG) or not info.filename.endswith(".npy"):
        raise InputError(
            f"holds {ascii(info.filename)[:60]}, which is no plain .npy file"
        )
    return info.filename.removesuffix(".npy")


def _native(values: np.ndarray) -> np.ndarray:
    return values.astype(values.dtype.newbyteorder("="), copy=False)
