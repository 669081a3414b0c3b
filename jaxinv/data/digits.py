"""Handwritten digits that are installed with scikit-learn, to train small models on.

The test part of Alpaydin and Kaynak's "Optical Recognition of Handwritten Digits" (UCI,
1998; CC BY 4.0): 8 x 8 pixels of 17 greys. Read from the file in the installed package:
nothing is downloaded, and scikit-learn itself is not imported.
"""

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from jaxinv.errors import InputError

_MOST = 16
"""The darkest grey in the file."""


def read_digits() -> tuple[np.ndarray, np.ndarray, tuple[str, ...], str]:
    """The digits, in the file's order.

    Returns:
      Images `uint8 [1797, 8, 8, 1]`, labels `int32 [1797]`, class names, and where
      they come from.

    Raises:
      InputError: scikit-learn is not installed, or lacks the file.
    """
    spec = importlib.util.find_spec("sklearn")
    remedy = "pip install 'jaxinv[demo]', or pass --data PATH"
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"the embedded digits need scikit-learn: {remedy}")
    path = Path(spec.submodule_search_locations[0]) / "datasets/data/digits.csv.gz"
    try:
        with gzip.open(path, "rt", encoding="ascii") as stream:
            table = np.loadtxt(stream, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the installed scikit-learn has no readable digits.csv.gz: {remedy}"
        ) from error
    pixels = np.round(table[:, :-1] * (255 / _MOST)).astype(np.uint8)
    names = tuple(str(digit) for digit in range(10))
    what = "embedded digits: 1797 handwritten ones from scikit-learn"
    return pixels.reshape(-1, 8, 8, 1), table[:, -1].astype(np.int32), names, what
