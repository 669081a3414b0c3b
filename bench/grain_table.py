"""Rows of `bench.grain` as tables in Markdown, as bench/GRAPHS.md has them."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]

SETTING = {
    "attack": "grain",
    "model": "gcn",
    "task": "graph",
    "activation": "relu",
    "concat": True,
    "depth": 2,
    "width": 300,
    "noise": 0.0,
    "float16": False,
    "local_lr": 0.0,
    "local_steps": 1,
    "chemistry": True,
}
"""What runs of the bench may vary, and what it is if nothing is said."""
SIZES = (10, 15, 20, 30, 50)
"""Upper ends of the buckets of graphs, in nodes."""
STATUSES = ("unique", "ambiguous", "gave up")


def wrong_unique(row: Row) -> bool:
    """Whether what must never be: a graph that is not the client's, called unique."""
    return row["status"] == "unique" and not row["isomorphic"]


def _count(holds: Callable[[Row], bool]) -> Callable[[Sequence[Row]], str]:
    return lambda rows: str(sum(map(holds, rows)))


def _mean(name: str) -> Callable[[Sequence[Row]], str]:
    return lambda rows: f"{np.mean([row[name] for row in rows]):.2f}"


def _median(rows: Sequence[Row]) -> str:
    return f"{np.median([row['seconds'] for row in rows]):.2f}"


COLUMNS: dict[str, Callable[[Sequence[Row]], str]] = {
    "graphs": lambda rows: str(len(rows)),
    "exact": _count(lambda row: row["isomorphic"]),
    "in the class": _count(lambda row: row["in_class"]),
    **{s: _count(lambda row, s=s: row["status"] == s) for s in STATUSES},
    "wrong and unique": _count(wrong_unique),
    "GSM-0": _mean("gsm0"),
    "GSM-1": _mean("gsm1"),
    "FULL": _mean("full"),
    "labels": lambda rows: str(sum(row["labels"] for row in rows)),
    "nodes": _mean("node_share"),
    "edges": _mean("edge_share"),
    "median s": _median,
    "mean s": _mean("seconds"),
    "compile s": _mean("compile_seconds"),
}


def print_rows(rows: Sequence[Row]) -> None:
    """The outcome by setting; of one setting also by size and the time by stage."""
    groups = by_setting(rows)
    _print("setting", {title: _cells(part) for title, part in groups.items()})
    if len(groups) > 1:
        return
    _print("nodes", {name: _cells(part) for name, part in by_size(rows).items()})
    stages: Counter[str] = Counter()
    for row in rows:
        stages.update(row["seconds_by_stage"])
    print("\nMean seconds by stage, compiling included:")
    for name, total in stages.items():
        print(f"  {name:16} {total / len(rows):.3f}")


def print_files(paths: Sequence[Path]) -> None:
    """Of files of rows: the outcome by setting, and seconds by size.

    The last column stands for all graphs that were found: two runs that found the same
    have the same one.
    """
    outcomes, growth = {}, {}
    for path in paths:
        rows = json.loads(path.read_text("utf-8"))
        for title, part in by_setting(rows).items():
            name = f"{path.stem}: {title}"
            outcomes[name] = {**_cells(part), "all graphs": digest_of_rows(part)}
            growth[name] = {
                f"{bucket} nodes": f"{_median(found)} ({len(found)})"
                for bucket, found in by_size(part).items()
            }
    _print("file: setting", outcomes)
    print("\nMedian seconds (and graphs) by size:")
    titles = [f"{bucket} nodes" for bucket in _buckets()]
    titles = [t for t in titles if any(t in cells for cells in growth.values())]
    _print(
        "file: setting",
        {name: {t: cells.get(t, "") for t in titles} for name, cells in growth.items()},
    )


def by_setting(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by what they have that is not the default, in the order of the rows."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        unlike = [
            f"{name}={row[name]}"
            for name, default in SETTING.items()
            if row.get(name, default) != default
        ]
        groups.setdefault(" ".join(unlike) or "default", []).append(row)
    return groups


def by_size(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by their bucket of `SIZES`, the empty ones left out."""
    groups: dict[str, list[Row]] = {}
    for name, (low, high) in _buckets().items():
        part = [row for row in rows if low < row["num_nodes"] <= high]
        if part:
            groups[name] = part
    return groups


def digest_of_rows(rows: Sequence[Row]) -> str:
    """Of all graphs in the rows, "" where a file does not have them."""
    digests = [row.get("digest") for row in rows]
    if None in digests:
        return ""
    return hashlib.sha256("".join(map(str, digests)).encode()).hexdigest()[:8]


def _buckets() -> dict[str, tuple[float, float]]:
    ends = list(itertools.pairwise([0, *SIZES]))
    named: dict[str, tuple[float, float]] = {
        f"{low + 1} to {high}": (low, high) for low, high in ends
    }
    return named | {f"{SIZES[-1] + 1} and more": (SIZES[-1], np.inf)}


def _cells(rows: Sequence[Row]) -> dict[str, str]:
    # Files of long ago do not have every column.
    return {
        title: "" if title == "labels" and "labels" not in rows[0] else cell(rows)
        for title, cell in COLUMNS.items()
    }


def _print(first: str, table: dict[str, dict[str, str]]) -> None:
    titles = [first, *next(iter(table.values()))]
    print("\n| " + " | ".join(titles) + " |")
    print("|" + "---|" * len(titles))
    for name, cells in table.items():
        print("| " + " | ".join([name, *cells.values()]) + " |")
