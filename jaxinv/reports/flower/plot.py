"""Leakage over the rounds of a federation, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxinv.reports.figure import Colours, draw
from jaxinv.reports.flower.verdict import examples_of
from jaxinv.reports.images.verdict import LIMITS

_MOST_POINTS = 5000


def rounds_svg(report: Mapping[str, Any], colours: Colours) -> bytes | None:
    """A point for each image, its best a line; below them the scores on the server.

    Returns:
      The file, or None where there is neither.
    """
    images = [
        (reply["round"], example["psnr"])
        for reply in report["replies"]
        for example in examples_of(reply)
        if example["psnr"] is not None
    ]
    side = "server" if any(r["server"] for r in report["replies"]) else "client"
    scores = [
        (reply["round"], reply[side]["score"])
        for reply in report["replies"]
        if reply[side] and reply[side]["score"] is not None
    ]
    panels = [one for one in ((images, True), (scores, False)) if one[0]]
    if not panels:
        return None

    def paint(figure: Any, colours: Colours) -> None:
        grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
        for axes, (points, psnr) in zip(grid, panels, strict=True):
            shown = points[:: -(-len(points) // _MOST_POINTS)]
            axes.plot(
                *zip(*shown, strict=True), "o", ms=4, mfc="none", mec=colours.other
            )
            best: dict[int, float] = {}
            for number, value in points:
                pick = max if psnr else min
                best[number] = pick(value, best.get(number, value))
            rounds = sorted(best)
            values = [best[number] for number in rounds]
            axes.plot(rounds, values, "-", color=colours.line, marker="o", ms=4)
            if psnr:
                for name in ("exact", "recognisable"):
                    least = LIMITS[name][0]
                    axes.axhline(least, color=colours.rule, linewidth=0.9, ls="--")
                    axes.annotate(
                        name,
                        (1, least),
                        xycoords=("axes fraction", "data"),
                        xytext=(0, 2),
                        textcoords="offset points",
                        color=colours.ink,
                        ha="right",
                        fontsize=8,
                    )
                axes.set_ylim(bottom=0)
            elif min(value for _, value in points) > 0:
                axes.set_yscale("log")
            axes.set_ylabel("PSNR, dB" if psnr else f"score on the {side}")
            axes.grid(True, color=colours.rule, linewidth=0.6)
            axes.xaxis.get_major_locator().set_params(integer=True)
        grid[-1].set_xlabel("round")

    return draw(paint, colours, size=(5.6, 1.0 + 2.1 * len(panels)))
