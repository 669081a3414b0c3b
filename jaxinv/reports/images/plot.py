"""Pictures for people: true beside recovered, and the score over the steps.

The pictures need Pillow, which comes with jaxinv; the curves need matplotlib, which
comes with the extra `plot`. Nothing here sets matplotlib's state or opens a window.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from jaxinv.audits.images.judge import Curve, ExamplePictures

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


def curves_svg(curves: Sequence[Curve], *, dark: bool = False) -> bytes | None:
    """The best start's score over the steps, and where every start ended, as SVG.

    Args:
      curves: one for each batch. Those without two finite scores are left out.
      dark: drawn for a dark page; the background is transparent either way.

    Returns:
      The file, or None where no curve has anything to show.

    Raises:
      ImportError: matplotlib is not installed.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    drawn = [_finite(curve) for curve in curves]
    drawn = [one for one in drawn if len(one[0]) > 1]
    if not drawn:
        return None
    ink, rule, line = (
        ("#b3b0a8", "#45423d", "#8fbcd4") if dark else ("#5c5a55", "#d5d0c6", "#2d6485")
    )
    last = max(steps[-1] for steps, _, _ in drawn)
    every = np.concatenate([np.concatenate([s, ends]) for _, s, ends in drawn])
    # The salt makes the same curves the same file.
    with rc_context({"svg.hashsalt": "jaxinv", "font.size": 10}):
        figure = Figure(figsize=(5.4, 3.1), layout="constrained")
        axes = figure.add_subplot()
        for number, (steps, score, ends) in enumerate(drawn):
            axes.plot(steps, score, color=line, linewidth=1.4, alpha=0.85)
            # To the right of the end, one column for each batch.
            place = last * (1.03 + 0.05 * (number + 0.5) / len(drawn))
            axes.plot([place] * len(ends), ends, "o", ms=2.5, color=line, alpha=0.6)
        if every.min() > 0 and every.max() > 10 * every.min():
            axes.set_yscale("log")
        axes.set_xlabel("step", color=ink)
        axes.set_ylabel("attacker's score", color=ink)
        axes.tick_params(which="both", color=rule, labelcolor=ink)
        axes.grid(True, axis="y", color=rule, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(rule)
        stream = io.BytesIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    return stream.getvalue()


def _finite(curve: Curve) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps, scores and the restarts' last scores, those that are finite."""
    steps, score, ends = (
        np.asarray(values, float).reshape(-1)
        for values in (curve.steps, curve.score, curve.restart_scores)
    )
    good = np.isfinite(score)
    return steps[good], score[good], ends[np.isfinite(ends)]
