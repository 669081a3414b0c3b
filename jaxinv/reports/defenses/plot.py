"""Privacy against accuracy, a point for each defence; needs the extra `plot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxinv.reports.figure import LIGHT, Colours, draw


def pareto_svg(
    rows: Sequence[Mapping[str, Any]], colours: Colours = LIGHT
) -> bytes | None:
    """The plot as an SVG file: better is to the right and down.

    Points that no other beats in both are filled and joined; bars are intervals.

    Args:
      rows: of the record of a comparison.
      colours: of the page it is drawn for.

    Returns:
      The file, or None where no row has both numbers.

    Raises:
      ImportError: matplotlib is not installed.
    """
    shown = [row for row in rows if row["strongest"]["psnr"] is not None]
    if not shown:
        return None

    def paint(figure: Any, colours: Colours) -> None:
        axes = figure.add_subplot()
        best = sorted(_point(row) for row in shown if row["pareto"])
        axes.plot(
            *zip(*best, strict=True), color=colours.line, linewidth=1.0, alpha=0.6
        )
        # By the row's number in the page's table, which has those without a point too.
        for number, row in enumerate(rows, start=1):
            if row["strongest"]["psnr"] is None:
                continue
            x, y = _point(row)
            color = colours.line if row["pareto"] else colours.other
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
                color=colours.ink,
            )
        axes.set_xlabel("test accuracy after training under it, %")
        axes.set_ylabel("PSNR of the strongest attack, dB")
        axes.grid(True, color=colours.rule, linewidth=0.6)

    return draw(paint, colours, size=(5.6, 4.0))


def _point(row: Mapping[str, Any]) -> tuple[float, float]:
    return 100 * row["accuracy"], row["strongest"]["psnr"]


def _bars(row: Mapping[str, Any]):
    """Low end, high end, and whether the bar lies along the accuracy."""
    if row["accuracy_interval"]:
        yield *(100 * end for end in row["accuracy_interval"]), True
    if row["strongest"]["psnr_interval"]:
        yield *row["strongest"]["psnr_interval"], False
