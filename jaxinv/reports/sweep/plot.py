"""Figures of a sweep, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxinv.reports.figure import Colours, draw
from jaxinv.reports.sweep.measures import measure_of

MOST_SETTINGS = 40
"""Rows of the figure; beyond it nobody reads the labels."""

_MOST_PANELS = 4
_MOST_POINTS = 2000


def settings_svg(report: Mapping[str, Any], colours: Colours) -> bytes | None:
    """The mean of every line, a row for each case and defence."""
    measure = measure_of(report)
    lines = [line for line in report["lines"] if measure.value.of(line) is not None]
    rows = list(dict.fromkeys((line["case"], line["defense"]) for line in lines))
    rows = rows[:MOST_SETTINGS]
    if not rows:
        return None
    one_case = len({case for case, _ in rows}) == 1

    def paint(figure: Any, colours: Colours) -> None:
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            here = [li for li in lines if (li["case"], li["defense"]) == row]
            best = max(here, key=measure.best)
            for line in here:
                top = line is best
                color = colours.line if top else colours.other
                ends = measure.interval(line)
                if ends:
                    axes.plot(ends, [place, place], color=color, linewidth=1)
                fill = color if top else "none"
                value = measure.value.of(line)
                axes.plot(value, place, "o", ms=5, color=color, mfc=fill)
        names = [
            defense if one_case else f"{case}: {defense}" for case, defense in rows
        ]
        short = [name if len(name) < 48 else f"{name[:47]}…" for name in names]
        # "$" would begin a formula.
        axes.set_yticks(range(len(rows)), [name.replace("$", r"\$") for name in short])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(f"mean {measure.value.column.title}")
        axes.grid(True, axis="x", color=colours.rule, linewidth=0.6)

    return draw(paint, colours, size=(6.8, 1.1 + 0.28 * len(rows)))


def scores_svg(
    report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], colours: Colours
) -> bytes | None:
    """The attacker's score against what is measured, a panel for each attack."""
    shown = measure_of(report).value
    attacks: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        value, score = shown.of(row), row.get("score")
        if value is not None and score is not None:
            attacks.setdefault(row["attack"], []).append((score, value))
    panels = [(name, found) for name, found in attacks.items() if len(found) > 2]
    panels = panels[:_MOST_PANELS]
    if not panels:
        return None

    def paint(figure: Any, colours: Colours) -> None:
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, (name, found) in zip(grid, panels, strict=True):
            drawn = found[:: -(-len(found) // _MOST_POINTS)]
            scores, values = zip(*drawn, strict=True)
            axes.plot(scores, values, "o", ms=3, color=colours.line, alpha=0.6)
            if min(scores) > 0 and max(scores) > 10 * min(scores):
                axes.set_xscale("log")
            axes.set_title(name)
            axes.set_xlabel("attacker's score")
            axes.grid(True, color=colours.rule, linewidth=0.6)
        grid[0].set_ylabel(shown.column.title)

    return draw(paint, colours, size=(2.0 + 2.4 * len(panels), 3.0))
