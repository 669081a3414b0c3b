"""Figures of a sweep, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxinv.reports.figure import Colours, draw

MOST_SETTINGS = 40
"""Rows of the figure; beyond it nobody reads the labels."""

_MOST_PANELS = 4
_MOST_POINTS = 2000


def settings_svg(report: Mapping[str, Any], colours: Colours) -> bytes | None:
    """Mean PSNR of every line, a row for each case and defence."""
    lines = [line for line in report["lines"] if line["psnr"] is not None]
    rows = list(dict.fromkeys((line["case"], line["defense"]) for line in lines))
    rows = rows[:MOST_SETTINGS]
    if not rows:
        return None
    one_case = len({case for case, _ in rows}) == 1

    def paint(figure: Any, colours: Colours) -> None:
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            here = [li for li in lines if (li["case"], li["defense"]) == row]
            best = max(here, key=lambda line: line["psnr"])
            for line in here:
                top = line is best
                color = colours.line if top else colours.other
                if line["psnr_interval"]:
                    axes.plot(
                        line["psnr_interval"], [place, place], color=color, linewidth=1
                    )
                fill = color if top else "none"
                axes.plot(line["psnr"], place, "o", ms=5, color=color, mfc=fill)
        names = [
            defense if one_case else f"{case}: {defense}" for case, defense in rows
        ]
        short = [name if len(name) < 48 else f"{name[:47]}…" for name in names]
        # "$" would begin a formula.
        axes.set_yticks(range(len(rows)), [name.replace("$", r"\$") for name in short])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("mean PSNR, dB")
        axes.grid(True, axis="x", color=colours.rule, linewidth=0.6)

    return draw(paint, colours, size=(6.8, 1.1 + 0.28 * len(rows)))


def scores_svg(rows: Sequence[Mapping[str, Any]], colours: Colours) -> bytes | None:
    """The attacker's score against the PSNR, a panel for each attack."""
    attacks: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["psnr"] is not None and row["score"] is not None:
            attacks.setdefault(row["attack"], []).append((row["score"], row["psnr"]))
    panels = [(name, found) for name, found in attacks.items() if len(found) > 2]
    panels = panels[:_MOST_PANELS]
    if not panels:
        return None

    def paint(figure: Any, colours: Colours) -> None:
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, (name, found) in zip(grid, panels, strict=True):
            shown = found[:: -(-len(found) // _MOST_POINTS)]
            scores, psnr = zip(*shown, strict=True)
            axes.plot(scores, psnr, "o", ms=3, color=colours.line, alpha=0.6)
            if min(scores) > 0 and max(scores) > 10 * min(scores):
                axes.set_xscale("log")
            axes.set_title(name)
            axes.set_xlabel("attacker's score")
            axes.grid(True, color=colours.rule, linewidth=0.6)
        grid[0].set_ylabel("PSNR, dB")

    return draw(paint, colours, size=(2.0 + 2.4 * len(panels), 3.0))
