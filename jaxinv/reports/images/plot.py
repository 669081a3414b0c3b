"""Pictures for people: true beside recovered, each pixel as it is."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from jaxinv.audits.images.judge import ExamplePictures

TRUE, FOUND, ORACLE = "true", "recovered", "best by truth"
"""What the three pictures of an example are called, everywhere."""

MAX_ON_SHEET = 64
"""Examples on one contact sheet: beyond it nobody looks, and memory grows."""

_GAP = 8
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def picture(pixels: np.ndarray, side: int = 0) -> Image.Image:
    """An array as a picture, magnified by whole pixels so that none is invented.

    Args:
      pixels: `uint8 [H, W, C]`, C = 1 (grey) or 3 (red, green, blue).
      side: pixels that the longer side should about have; smaller pictures are
        magnified by a whole factor, larger ones stay as they are.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    factor = max(1, side // max(image.size))
    size = image.width * factor, image.height * factor
    return image.resize(size, Image.Resampling.NEAREST)


def contact_sheet(rows: Sequence[ExamplePictures], *, side: int = 96) -> Image.Image:
    """True, recovered and best by truth, for up to `MAX_ON_SHEET` examples.

    Args:
      rows: at least one; those beyond `MAX_ON_SHEET` are left out.
      side: see `picture`.
    """
    rows = rows[:MAX_ON_SHEET]
    triples = [
        [picture(p, side) for p in (row.true, row.found, row.oracle)] for row in rows
    ]
    width = max(image.width for triple in triples for image in triple) + _GAP
    height = max(image.height for triple in triples for image in triple) + _GAP
    # Groups of three side by side, so that many examples stay about square.
    groups = max(1, math.ceil(math.sqrt(len(triples) * height / (3 * width))))
    lines = math.ceil(len(triples) / groups)
    head, group_width = 20, 3 * width + 2 * _GAP
    size = groups * group_width, head + lines * height + _GAP
    sheet = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for group in range(groups):
        for column, title in enumerate((TRUE, FOUND, ORACLE)):
            left = group * group_width + column * width + _GAP
            pen.text((left, 4), title, fill=_INK, font=font)
    for number, triple in enumerate(triples):
        line, group = divmod(number, groups)
        for column, image in enumerate(triple):
            left = group * group_width + column * width + _GAP
            sheet.paste(image, (left, head + line * height))
    return sheet


def png(image: Image.Image) -> bytes:
    """The picture as a PNG file."""
    stream = io.BytesIO()
    image.save(stream, "png", optimize=True)
    return stream.getvalue()
