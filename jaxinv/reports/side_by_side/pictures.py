"""Pictures of runs for one page: looked for by number, opened with care, drawn anew."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image

from jaxinv.data.bounded import inside
from jaxinv.reports.images.plot import png

MAX_BYTES = 8 * 2**20
"""Of one file."""
MAX_SIDE = 4096
"""Pixels of a picture that is opened."""
SHOWN_SIDE = 640
"""Pixels that a picture has on the page at most."""


def picture_of(folder: Path, index: int) -> bytes | None:
    """The picture of one example in a run's folder, as a PNG file made anew.

    Its name is made of the number alone, and links that lead out of the folder are not
    followed: what a report says cannot reach other files.

    Args:
      folder: of the run.
      index: of the example, 0 or more.

    Returns:
      The file, or None where there is none that can be shown.
    """
    path = folder / "pictures" / f"example-{index:05d}.png"
    try:
        if not path.is_file() or not inside(folder, path):
            return None
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            return None
        with warnings.catch_warnings():
            # Pillow warns of large pictures, which are refused here anyway.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
                if max(image.size) > MAX_SIDE:
                    return None
                drawn = image.convert("RGB")
    except (
        OSError,
        ValueError,
        SyntaxError,
        MemoryError,
        Image.DecompressionBombError,
    ):
        return None
    drawn.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    return png(drawn)
