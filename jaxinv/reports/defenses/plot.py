"""Privacy against accuracy, a point for each defence; needs the extra `plot`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any


def pareto_svg(
    rows: Sequence[Mapping[str, Any]], *, dark: bool = False
) -> bytes | None:
    """The plot as an SVG file: better is to the right and down.

    Points that no other beats in both are filled and joined; bars are intervals.

    Args:
      rows: of the record of a comparison.
      dark: drawn for a dark page; the background is transparent either way.

    Returns:
      The file, or None where no row has both numbers.

    Raises:
      ImportError: matplotlib is not installed.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    shown = [row for row in rows if row["strongest"]["psnr"] is not None]
    if not shown:
        return None
    ink, rule, front, other = (
        ("#b3b0a8", "#45423d", "#8fbcd4", "#8a857b")
        if dark
        else ("#5c5a55", "#d5d0c6", "#2d6485", "#a39d92")
    )
    with rc_context({"svg.hashsalt": "jaxinv", "font.size": 9}):
        figure = Figure(figsize=(6.6, 4.2), layout="constrained")
        axes = figure.add_subplot()
        best = sorted(_point(row) for row in shown if row["pareto"])
        axes.plot(*zip(*best, strict=True), color=front, linewidth=1.0, alpha=0.6)
        for number, row in enumerate(shown, start=1):
            x, y = _point(row)
            color = front if row["pareto"] else other
            for low, high, horizontal in _bars(row):
                ends = ([low, high], [y, y]) if horizontal else ([x, x], [low, high])
                axes.plot(*ends, color=color, linewidth=0.8, alpha=0.6)
            fill = color if row["pareto"] else "none"
            axes.plot(x, y, "o", ms=6, color=color, markerfacecolor=fill)
            axes.annotate(
                str(number),
                (x, y),
                xytext=(5, 4),
                textcoords="offset points",
                color=ink,
            )
        axes.set_xlabel("test accuracy after training under it, %", color=ink)
        axes.set_ylabel("PSNR of the strongest attack, dB", color=ink)
        axes.tick_params(which="both", color=rule, labelcolor=ink)
        axes.grid(True, color=rule, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(rule)
        stream = io.BytesIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    return stream.getvalue()


def _point(row: Mapping[str, Any]) -> tuple[float, float]:
    return 100 * row["accuracy"], row["strongest"]["psnr"]


def _bars(row: Mapping[str, Any]):
    """Low end, high end, and whether the bar lies along the accuracy."""
    if row["accuracy_interval"]:
        yield *(100 * end for end in row["accuracy_interval"]), True
    if row["strongest"]["psnr_interval"]:
        yield *row["strongest"]["psnr_interval"], False
