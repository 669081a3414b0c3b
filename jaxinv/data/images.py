"""Labelled images as one type, whatever format they come from."""

import operator
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxinv.data.bounded import check_bytes, inside
from jaxinv.data.cifar import find_cifar10, read_cifar10
from jaxinv.data.digits import read_digits
from jaxinv.data.folder import centre_square, read_folder
from jaxinv.data.idx import find_idx, read_idx
from jaxinv.data.npz import read_npz
from jaxinv.data.photos import read_photos
from jaxinv.errors import InputError, tamed

ACCEPTED = (
    "a .npz with x and y, a folder of images, CIFAR-10 batches (python or binary) "
    "or MNIST idx files"
)
DIGITS = "digits"
"""The path that means the embedded digits."""

MAX_CLASSES = 100_000
MAX_SIDE = 4096

# Where archives unpack to, and where torchvision puts MNIST.
_NESTED = ("cifar-10-batches-py", "cifar-10-batches-bin", "MNIST/raw")

_Read = tuple[np.ndarray, np.ndarray, tuple[str, ...], str]


class ImageData(NamedTuple):
    """Images with their labels, in host memory.

    Attributes:
      x: Pixels, `uint8 [N, H, W, C]` in 0-255, C = 1 (grey) or 3 (red, green, blue).
      y: Labels, `int32 [N]`, each in `[0, num_classes)`.
      class_names: Name of every class, `num_classes` of them.
      name: What the images are and where they were read from, for the report.
    """

    x: np.ndarray
    y: np.ndarray
    class_names: tuple[str, ...]
    name: str

    @property
    def num_classes(self) -> int:
        """Number of classes, those without an image included."""
        return len(self.class_names)


def load_images(
    path: str | os.PathLike[str] | None, *, size: int | None = None
) -> ImageData:
    """Loads labelled images, and finds out by itself in which format they are.

    A file may be a `.npz` archive, a CIFAR-10 batch or an idx file of images; a
    folder may hold CIFAR-10 batches, idx files, or image files (sub-folders are
    classes; without any, all images are of one class "unlabelled"). Links inside a
    folder that lead out of it are ignored. No pickle is executed, and sizes are
    checked before memory is taken.

    Args:
      path: File or folder; None for the embedded photographs (32 x 32, 64 crops of 8
        photographs; needs scikit-image), "digits" for the embedded digits (8 x 8, 1797
        of them; needs scikit-learn), where no file has that name.
      size: Side in pixels. Images that are not `size` x `size` are cut to their
        centre square and resized (Lanczos). None keeps the size they have.

    Returns:
      The images. Without names in the source, classes are named "0", "1", ... up to
      the largest label.

    Raises:
      InputError: the path is missing, unreadable or in no format known here, the
        content is damaged or too large, or `size` is no length. One line.
    """
    if size is not None:
        size = _check_size(size)
    if path is None:
        return ImageData(*read_photos(32 if size is None else size))
    where = _check_path(path)
    if path == DIGITS and not where.exists():
        x, y, names, what = read_digits()
        return ImageData(_check_pixels(x, size), y, names, what)
    try:
        x, y, names, what = _recognise(where, size)()
        x, y = _check_pixels(x, size), _check_labels(y, len(x))
        names = tuple(_printable(name) for name in _name_classes(y, names))
    except InputError as error:
        raise InputError(f"path {str(where)!r}: {tamed(error)}") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(
            f"path {str(where)!r}: {reason}; accepted: {ACCEPTED}"
        ) from error
    return ImageData(x, y, names, _printable(f"{where} ({what})"))


def _check_size(size: int) -> int:
    try:
        side = operator.index(size)
    except TypeError:
        side = 0
    if isinstance(size, bool) or not 1 <= side <= MAX_SIDE:
        raise InputError(
            f"size={size!r}: expected pixels from 1 to {MAX_SIDE}, or None"
        )
    return side


def _check_path(path: str | os.PathLike[str]) -> Path:
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    # Path("") would be the current folder, read by accident.
    if not isinstance(text, str) or not text or "\0" in text:
        raise InputError(f"path {path!r}: expected a file or folder: {ACCEPTED}")
    return Path(text)


def _recognise(path: Path, size: int | None) -> Callable[[], _Read]:
    """The reader for what lies at `path`: by content, and by name where that is it."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        for folder in (path, *(path / name for name in _NESTED)):
            if not inside(path, folder):
                continue
            if batches := find_cifar10(folder):
                return lambda: read_cifar10(batches)
            if images := find_idx(folder):
                return lambda: read_idx(images)
        return lambda: read_folder(path, size=size)
    if not stat.S_ISREG(mode):
        raise InputError(f"neither file nor folder; accepted: {ACCEPTED}")
    with path.open("rb") as stream:
        head = stream.read(4)
    if not head:
        raise InputError(f"the file is empty; accepted: {ACCEPTED}")
    if path.suffix == ".npz" or head == b"PK\x03\x04":
        return lambda: read_npz(path)
    # Before idx: a binary batch may by chance start with the bytes of an idx file.
    if path.suffix == ".bin" or (head[0] == 0x80 and head[1:2] in b"\2\3\4\5"):
        return lambda: read_cifar10([path])
    if head[:3] == b"\0\0\x08" or head[:2] == b"\x1f\x8b" or "idx3-ubyte" in path.name:
        return lambda: read_idx(path)
    raise InputError(f"in no format known here; accepted: {ACCEPTED}")


def _check_pixels(x: np.ndarray, size: int | None) -> np.ndarray:
    """Pixels as `uint8 [N, H, W, C]`, contiguous, resized where asked."""
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if 0 in x.shape:
        raise InputError(f"images of shape {x.shape}: none to audit")
    if x.shape[-1] not in (1, 3):
        hint = ", channels are last" if x.shape[1] in (1, 3) else ""
        raise InputError(
            f"images of shape {x.shape}, expected [N, H, W, C] with C = 1 or 3{hint}"
        )
    if size is None or x.shape[1:3] == (size, size):
        return np.ascontiguousarray(x)
    shape = (len(x), size, size, x.shape[-1])
    check_bytes(len(x) * size * size * x.shape[-1], f"images resized to {size}")
    resized = np.empty(shape, np.uint8)
    for new, old in zip(resized, x, strict=True):
        for c in range(x.shape[-1]):
            plane = Image.fromarray(np.ascontiguousarray(old[..., c]))
            new[..., c] = np.asarray(centre_square(plane, size))
    return resized


def _check_labels(y: np.ndarray, count: int) -> np.ndarray:
    """Labels as `int32 [N]`."""
    if y.shape != (count,):
        raise InputError(f"labels of shape {y.shape} for {count} images")
    if y.min() < 0 or y.max() >= MAX_CLASSES:
        raise InputError(
            f"labels from {y.min()} to {y.max()}, expected 0 to {MAX_CLASSES - 1}"
        )
    return y.astype(np.int32)


def _name_classes(y: np.ndarray, names: tuple[str, ...]) -> tuple[str, ...]:
    count = int(y.max()) + 1
    if len(names) >= count:
        return names
    table = [str(label) for label in range(count)]
    if not names:
        return tuple(table)
    if len(names) != len(y):
        raise InputError(
            f"{len(names)} class names for labels up to {count - 1}, expected at least "
            f"{count} (or one for each image)"
        )
    # A sample of a large label space (64 images of ImageNet) comes with one name for
    # each image instead of a thousand.
    given = dict(zip(y.tolist(), names, strict=True))
    if any(given[label] != name for label, name in zip(y.tolist(), names, strict=True)):
        raise InputError("class names for each image, but two for the same label")
    for label, name in given.items():
        table[label] = name
    return tuple(table)


def _printable(text: str) -> str:
    """Without control characters: a name from a file must not steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
