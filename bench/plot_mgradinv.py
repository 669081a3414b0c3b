"""Rows of `bench.mgradinv` as a picture.

    python -m bench plot_mgradinv FILE... --png OUT.png

A column of panels for each of rounds, interval, start and noise that the rows vary
(for the rounds if none): above, the share of users with every rating exact; below, the
mean over users of the mean absolute error. Bars are 95 % intervals. Rows of one setting
make a line; a line is named by the settings that differ, and by its file where two
files have the same ones. Where three or four are varied, a panel has lines for one
besides its own, and the others as the first row has them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.mgradinv_table import Row, mean_and_half_width, values_of
from bench.plot_restarts import COLOURS

AXES = {
    "rounds": "rounds observed",
    "interval": "steps between two rounds",
    "start": "steps before the first round",
    "noise": "noise, share of the update's root mean square",
}
"""What may vary along a line, and how a panel calls it."""
TOLD = (
    *("model", "method", "activation", "embedding", "attack_options", "dim"),
    *("learning_rate", "restarts", "steps", "seed", "float16", "float64"),
    *("together", "wrong", "implicit", "all_items", "data"),
)
"""What else tells lines apart, where it varies."""


def main(argv: Sequence[str]) -> int:
    """Reads the files and writes the picture."""
    parser = argparse.ArgumentParser(prog="python -m bench plot_mgradinv")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--png", type=Path, required=True)
    args = parser.parse_args(argv)
    if importlib.util.find_spec("matplotlib") is None:
        parser.error("pictures need matplotlib: pip install 'jaxinv[plot]'")
    rows = [
        {"file": path.stem, **row}
        for path in args.files
        for row in json.loads(path.read_text(encoding="utf-8"))
    ]
    if not rows:
        parser.error(f"{', '.join(path.name for path in args.files)}: no rows")
    plot(rows, args.png)
    return 0


def plot(rows: Sequence[Row], path: Path) -> None:
    """The picture of the rows, as a PNG.

    Args:
      rows: of `bench.mgradinv`, at least one, each with the "file" it is from.
      path: where to write.

    Raises:
      ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    varied = [axis for axis in AXES if _varies(rows, axis)] or ["rounds"]
    size = (1.0 + 4.6 * len(varied), 7.0)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(2, len(varied), sharex="col", sharey="row", squeeze=False)
    for (above, below), axis in zip(panels.T, varied, strict=True):
        others = [other for other in varied if other != axis][1:]
        shown = [
            row
            for row in rows
            if all(_value(row, other) == _value(rows[0], other) for other in others)
        ]
        # Evenly spaced, for they are few and may span decades from 0 on.
        ticks = sorted({_value(row, axis) for row in shown})
        lines = _lines(shown, axis)
        above.set_title(_name(rows[0], others), fontsize=9, color="#5c5a55")
        for i, (name, line) in enumerate(lines.items()):
            # Side by side, so that no bar hides another.
            shift = 0.06 * (i - (len(lines) - 1) / 2)
            x = [ticks.index(value) + shift for value in line]
            style = {"marker": "os^Dv"[i % 5], "color": COLOURS[i % len(COLOURS)]}
            style |= {"label": name, "markersize": 5, "capsize": 3, "linewidth": 1.6}
            shares = np.array([_exact_share(part) for part in line.values()]).T
            above.errorbar(x, shares[0], shares[1:], **style)
            errors = np.array(
                [mean_and_half_width(values_of(p, "mae")) for p in line.values()]
            ).T
            below.errorbar(x, errors[0], errors[1], **style)
        below.set_xticks(range(len(ticks)), [f"{tick:g}" for tick in ticks])
        below.set_xlim(-0.5, len(ticks) - 0.5)
        below.set_xlabel(AXES[axis])
        if lines.keys() != {""}:
            below.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize=8)
    for axes in panels.flat:
        axes.grid(True, color="#d5d0c6", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_ylim(-0.03, 1.03)
    top = panels[1, 0].get_ylim()[1]
    panels[1, 0].set_ylim(-0.03 * top, top)
    panels[0, 0].set_ylabel("share of users with every rating exact")
    panels[1, 0].set_ylabel("mean absolute error of a rating")
    figure.suptitle(_title(rows, varied), fontsize=10)
    figure.savefig(path, format="png", dpi=150)


def _lines(rows: Sequence[Row], axis: str) -> dict[str, dict[float, list[Row]]]:
    """The rows of each point, by the name of its line and its place on the axis."""
    keys = [k for k in (*AXES, *TOLD) if k != axis and _varies(rows, k)]
    sources: dict[tuple[str, float], set[str]] = {}
    for row in rows:
        point = (_name(row, keys), _value(row, axis))
        sources.setdefault(point, set()).add(row["file"])
    if any(len(files) > 1 for files in sources.values()):
        keys.append("file")
    lines: dict[str, dict[float, list[Row]]] = {}
    for row in sorted(rows, key=lambda row: _value(row, axis)):
        line = lines.setdefault(_name(row, keys), {})
        line.setdefault(_value(row, axis), []).append(row)
    return dict(sorted(lines.items()))


def _exact_share(rows: Sequence[Row]) -> tuple[float, float, float]:
    """Share, and how far its 95 % interval reaches below and above (Wilson 1927)."""
    n, z2 = len(rows), 1.96**2
    share = float(np.mean(values_of(rows, "exact") == 1))
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = 1.96 / (1 + z2 / n) * (share * (1 - share) / n + z2 / (4 * n * n)) ** 0.5
    return share, max(share - middle + half, 0), max(middle + half - share, 0)


def _value(row: Row, key: str) -> Any:
    """What a row says of a setting; one that it does not know is one that is not."""
    value = row.get(key) or (0 if key in AXES else "")
    return value if isinstance(value, (int, float)) else str(value)


def _varies(rows: Sequence[Row], key: str) -> bool:
    return len({_value(row, key) for row in rows}) > 1


def _name(row: Row, keys: Sequence[str]) -> str:
    words = (_said(row, key) for key in keys)
    return ", ".join(word for word in words if word)


def _said(row: Row, key: str) -> str:
    """A setting in words, nothing for one that is not: `ncf`, `dim 8`, `together`."""
    value = row.get(key)
    if key == "attack_options":
        return ", ".join(f"{k} {v}" for k, v in (value or {}).items())
    if key in AXES:
        return f"{key} {_value(row, key):g}"
    if key == "float64":
        return key if value else "float32"
    if isinstance(value, bool):
        return key.replace("_", " ") if value else ""
    if isinstance(value, (int, float)):
        return f"{key.replace('_', ' ')} {value:g}"
    return value or ""


def _title(rows: Sequence[Row], varied: Sequence[str]) -> str:
    """What all rows have in common."""
    names = ("data", "model", "method", "activation", "embedding", "dim")
    names += ("together", "implicit", "all_items")
    same = [k for k in (*names, *AXES) if k not in varied and not _varies(rows, k)]
    users = {
        len(part) for line in _lines(rows, varied[0]).values() for part in line.values()
    }
    ends = " to ".join(str(end) for end in sorted({min(users), max(users)}))
    return f"{_name(rows[0], same)}\n{ends} users a point, 95 % intervals"
