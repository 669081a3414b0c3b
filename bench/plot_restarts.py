"""Rows of `bench.restarts` as a table and as a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]

AXES = {
    "restarts": "restarts",
    "batch": "examples in the batch",
    "width": "width of the model",
    "image_size": "side of the images, pixels",
}
"""What a bench may vary, and how a panel calls it."""
KINDS = ("device", "target", "precision")
"""What tells lines of one engine apart, where it varies."""
COLOURS = ("#2d6485", "#c0632f", "#6a8f3c", "#7d5a94", "#a03a4e", "#5c5a55")


def print_rows(rows: Sequence[Row]) -> None:
    """The table, on standard output."""
    columns = {
        "impl": "impl",
        "target": "target",
        "restarts": "restarts",
        "batch": "batch",
        "width": "width",
        "image_size": "size",
        "precision": "precision",
        "iterations": "steps",
        "restart_iterations_per_s": "r-it/s",
        "spread": "min to max",
        "ratio_to_peer": "ratio",
        "ceiling_share": "of ceiling",
        "chunk": "chunk",
        "peak_mb": "peak MB",
        "compile_s": "compile s",
    }
    table = Table()
    for key, title in columns.items():
        table.add_column(title, justify="left" if key in ("impl", *KINDS) else "right")
    for row in rows:
        table.add_row(*(_cell(key, row.get(key)) for key in columns))
    Console(width=160).print(table)


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key == "ceiling_share":
        return f"{value:.1%}"
    if key == "spread":
        return " to ".join(f"{v:.4g}" for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def plot(rows: Sequence[Row], path: Path) -> None:
    """Restart-iterations per second against all that the rows vary, as a PNG.

    One panel for each thing varied (for the restarts if nothing is), logarithmic on
    both axes. A panel holds the rows that have the other things as the first row has
    them. Bars reach from the slowest repetition to the fastest.

    Args:
      rows: of `bench.restarts`, at least one.
      path: where to write.

    Raises:
      ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    kinds = [k for k in KINDS if len({row[k] for row in rows}) > 1]
    names = list(dict.fromkeys(_name(row, kinds) for row in rows))
    # Varied along a line: two models may just have widths of their own.
    seen = {(a, _name(row, kinds), row[a]) for row in rows for a in AXES}
    counts = Counter((axis, name) for axis, name, _ in seen)
    varied = [a for a in AXES if any(counts[a, n] > 1 for n in names)] or ["restarts"]
    figure = Figure(figsize=(1.2 + 4.4 * len(varied), 4.4), layout="constrained")
    panels = figure.subplots(1, len(varied), sharey=True, squeeze=False)[0]
    lines: dict[str, Any] = {}
    for axes, axis in zip(panels, varied, strict=True):
        held = [a for a in varied if a != axis]
        ticks = set()
        for i, name in enumerate(names):
            own = [row for row in rows if _name(row, kinds) == name]
            points = sorted(
                (row for row in own if all(row[a] == own[0][a] for a in held)),
                key=lambda row: row[axis],
            )
            x = [row[axis] for row in points]
            y = [row["restart_iterations_per_s"] for row in points]
            ends = [
                [v - row["spread"][0] for v, row in zip(y, points, strict=True)],
                [row["spread"][1] - v for v, row in zip(y, points, strict=True)],
            ]
            ticks |= set(x)
            lines[name] = axes.errorbar(
                x,
                y,
                ends,
                marker="os^Dv"[i % 5],
                markersize=5,
                capsize=3,
                linewidth=1.6,
                color=COLOURS[i % len(COLOURS)],
            )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sorted(ticks), [str(tick) for tick in sorted(ticks)])
        axes.minorticks_off()
        axes.grid(True, color="#d5d0c6", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(AXES[axis])
        _label_rates(axes)
        if held:
            axes.set_title(_fixed(rows[0], held), fontsize=9, color="#5c5a55")
    panels[0].set_ylabel("restart-iterations per second")
    columns = (2 if kinds else 3) * len(varied)  # as many as fit below the panels
    figure.legend(
        list(lines.values()), list(lines), loc="outside lower center", ncols=columns
    )
    same = [a for a in AXES if len({row[a] for row in rows}) == 1]
    figure.suptitle(_title(rows[0], same, kinds), fontsize=10)
    figure.savefig(path, format="png", dpi=150)


def _label_rates(axes: Any) -> None:
    """Plain numbers on the rate's axis, also where it spans less than a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    low, high = axes.get_ylim()
    subs = (1.0,) if high > 1000 * low else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def _name(row: Row, kinds: Sequence[str]) -> str:
    return ", ".join([row["impl"], *(str(row[kind]) for kind in kinds)])


def _fixed(row: Row, axes: Sequence[str]) -> str:
    told = (a for a in axes if row[a] is not None)
    return ", ".join(f"{a.replace('image_', '')} {row[a]}" for a in told)


def _title(row: Row, same: Sequence[str], kinds: Sequence[str]) -> str:
    told = [str(row[kind]) for kind in KINDS if kind not in kinds]
    setting = ", ".join(["Inverting Gradients", *told, _fixed(row, same)])
    return f"{setting.removesuffix(', ')}\n{row.get('machine', '')}"
