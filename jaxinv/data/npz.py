"""Reads images and labels from a `.npz` archive, never through pickle."""

import zipfile
from pathlib import Path

import numpy as np

from jaxinv.data.archive import array, header, names, open_archive
from jaxinv.data.bounded import check_bytes
from jaxinv.errors import InputError

# Names of images and labels, the first complete pair wins: the plain pair, Keras,
# MedMNIST, the held-out part alone, and the Olivetti faces.
PAIRS = (
    ("x", "y"),
    ("x_train", "y_train"),
    ("train_images", "train_labels"),
    ("x_test", "y_test"),
    ("x", "subject"),
)


def read_npz(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], str]:
    """Reads one pair of `PAIRS` and, where there is one, `class_names`.

    Args:
      path: The archive.

    Returns:
      Images `uint8 [N, H, W]` or `[N, H, W, C]` (floats in [0, 1] are scaled to 0-255
      and rounded), integer labels `[N]` (a trailing axis of 1 is dropped), the class
      names (empty if absent), and what was read.

    Raises:
      InputError: damaged archive, missing or pickled arrays, wrong element types,
        floats outside [0, 1], or more bytes declared than the limit.
    """
    with open_archive(path) as archive:
        return _read_pair(archive)


def _read_pair(archive: zipfile.ZipFile):
    keys = names(archive)
    pair = next((p for p in PAIRS if set(p) <= set(keys)), None)
    if pair is None:
        known = ", ".join("/".join(p) for p in PAIRS)
        raise InputError(f"holds arrays {keys[:8]}, expected one pair of {known}")
    wanted = [*pair, *(["class_names"] if "class_names" in keys else [])]

    headers = {key: header(archive, key) for key in wanted}
    check_bytes(sum(size for *_, size in headers.values()), f"arrays {wanted}")
    shape, dtype, _ = headers[pair[0]]
    if len(shape) not in (3, 4):
        raise InputError(f"{pair[0]} has shape {shape}, expected [N, H, W(, C)]")
    if dtype != np.uint8 and dtype.kind != "f":
        raise InputError(
            f"{pair[0]} is {dtype}, expected uint8 in 0-255 or floats in [0, 1]"
        )
    shape, dtype, _ = headers[pair[1]]
    if dtype.kind not in "iu":
        raise InputError(f"{pair[1]} is {dtype}, expected integer labels")

    x, y = (array(archive, key) for key in pair)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    classes: tuple[str, ...] = ()
    if "class_names" in headers:
        shape, dtype, _ = headers["class_names"]
        if len(shape) != 1 or dtype.kind not in "US":
            raise InputError(
                f"class_names is {dtype} {shape}, expected a list of strings"
            )
        table = array(archive, "class_names")
        if dtype.kind == "S":
            table = np.char.decode(table, "utf-8", "replace")
        classes = tuple(table.tolist())
    return _to_uint8(x, pair[0]), y, classes, f"npz, {pair[0]} and {pair[1]}"


def _to_uint8(x: np.ndarray, key: str) -> np.ndarray:
    if x.dtype == np.uint8 or x.size == 0:
        return x.astype(np.uint8, copy=False)
    low, high = x.min(), x.max()
    if not (low >= 0 and high <= 1):  # so written, NaN is refused as well
        raise InputError(
            f"{key} has floats in [{low}, {high}], expected [0, 1] (or uint8 in 0-255)"
        )
    pixels = np.empty(x.shape, np.uint8)
    for image, scaled in zip(x, pixels, strict=True):  # one image of scratch, not N
        scaled[...] = np.rint(image.astype(np.float64) * 255)
    return pixels
