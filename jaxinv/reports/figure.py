"""Figures for pages: SVG by matplotlib, once for light and once for dark screens.

They need matplotlib, which comes with the extra `plot`. Nothing here sets its state or
opens a window, and the same figure is the same file.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxinv.reports.page import data_uri


class Colours(NamedTuple):
    """Of one figure; the background is transparent."""

    ink: str
    """Of text."""
    rule: str
    """Of axes and grids."""
    line: str
    """Of what the figure is about."""
    other: str
    """Of what stands back."""


LIGHT = Colours("#5c5a55", "#d5d0c6", "#2d6485", "#a39d92")
DARK = Colours("#b3b0a8", "#45423d", "#8fbcd4", "#8a857b")


class Drawn(NamedTuple):
    """What `figure.html.j2` shows."""

    light: str | None
    """The figure as a `data:` address; None where there is nothing to draw."""
    dark: str | None
    """The same for dark screens."""
    missing: str = ""
    """The extra to install, where matplotlib is not there."""


def both(svg: Callable[[Colours], bytes | None]) -> Drawn:
    """The figure for light and dark screens, or what it lacks.

    Args:
      svg: makes the file from colours, by `draw`; None where nothing can be drawn.
    """
    try:
        files = [svg(colours) for colours in (LIGHT, DARK)]
    except ImportError:
        return Drawn(None, None, "jaxinv[plot]")
    light, dark = (data_uri(one, "image/svg+xml") if one else None for one in files)
    return Drawn(light, dark)


def draw(
    paint: Callable[[Any, Colours], None],
    colours: Colours,
    *,
    size: tuple[float, float] = (5.4, 3.1),
) -> bytes:
    """A figure as an SVG file.

    Args:
      paint: `(figure, colours)`, puts axes on a matplotlib figure; their labels, ticks
        and spines are coloured here.
      colours: `LIGHT` or `DARK`.
      size: width and height in inches, of 72 pixels each. On a phone about 5 inches
        are shown with text of 10 pixels; more makes it smaller.

    Raises:
      ImportError: matplotlib is not installed.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # The salt makes the same figure the same file.
    with rc_context({"svg.hashsalt": "jaxinv", "font.size": 10}):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure, colours)
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                axis.label.set_color(colours.ink)
            axes.title.set_color(colours.ink)
            axes.tick_params(which="both", color=colours.rule, labelcolor=colours.ink)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.spines[["left", "bottom"]].set_color(colours.rule)
        stream = io.BytesIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    return stream.getvalue()
