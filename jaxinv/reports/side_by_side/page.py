"""The page of a comparison, and the files it is written to."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxinv.reports.folder import replace_file
from jaxinv.reports.page import data_uri, render_page
from jaxinv.reports.side_by_side.cases import CASES
from jaxinv.reports.side_by_side.compare import compare
from jaxinv.reports.side_by_side.pictures import picture_of
from jaxinv.reports.side_by_side.reading import Run
from jaxinv.reports.table import Column

FILES = ("compare.html", "compare.json")
"""What a comparison is written to."""

MAX_PICTURES = 96
"""On one page, of all runs together."""

SHOWN = 8
"""Examples whose pictures are open; the others unfold."""


def write_comparison(runs: Sequence[Run], out: str | os.PathLike[str]) -> Path:
    """Writes `compare.json` and `compare.html`, and touches nothing else there.

    Args:
      runs: of `read_reports`.
      out: the folder, made if missing.

    Returns:
      The path of `compare.html`.

    Raises:
      OSError: something could not be written.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    comparison = compare(runs)
    text = json.dumps(comparison, indent=2, allow_nan=False) + "\n"
    replace_file(folder / "compare.json", text.encode())
    path = folder / "compare.html"
    replace_file(path, render(runs, comparison).encode("utf-8", "replace"))
    return path


def render(runs: Sequence[Run], comparison: dict[str, Any]) -> str:
    """The page, as text; see `page.html.j2` for what it says."""
    names = [Column(run.label) for run in runs]
    return render_page(
        "side_by_side/page.html.j2",
        c=comparison,
        columns=[Column("setting"), *names],
        different=[[name, *row] for name, row in comparison["different"].items()],
        numbers=[_of_case(one) for one in comparison["numbers"]],
        entries=[_of_entries(one) for one in comparison["entries"]],
        galleries=[
            one for group in comparison["entries"] if (one := _gallery(runs, group))
        ],
        shown=SHOWN,
    )


def _of_case(table: dict[str, Any]) -> dict[str, Any]:
    times = (Column("compiling, s", "number", 1), Column("running, s", "number", 1))
    columns = [shown.column for shown in CASES[table["case"]].numbers]
    rows = [[label, *values] for label, values in table["rows"].items()]
    return {
        "case": table["case"],
        "columns": [Column("run"), *columns, *times],
        "rows": rows,
    }


def _of_entries(group: dict[str, Any]) -> dict[str, Any]:
    case = CASES[group["case"]]
    about = [] if case.about is None else [Column("name")]
    columns = [
        shown.column._replace(title=f"{label}: {shown.column.title}")
        for shown in case.compared
        for label in group["runs"]
    ]
    rows = [
        [
            row["key"],
            *([row["about"]] if about else []),
            *(value for values in row["values"] for value in values),
        ]
        for row in group["rows"]
    ]
    columns = [Column(case.unit), *about, *columns]
    return {**group, "unit": case.unit, "columns": columns, "rows": rows}


def _gallery(runs: Sequence[Run], group: dict[str, Any]) -> dict[str, Any] | None:
    """Pictures of the same examples, as many as the page may hold."""
    if not CASES[group["case"]].pictures:
        return None
    members = [run for run in runs if run.label in group["runs"]]
    most = max(1, MAX_PICTURES // len(members))
    rows = []
    for row in group["rows"][:most]:
        if not isinstance(row["key"], int):
            continue
        found = [picture_of(run.folder, row["key"]) for run in members]
        if any(found):
            uris = [one and data_uri(one) for one in found]
            pairs = list(zip(group["runs"], uris, row["values"][0], strict=True))
            rows.append({"key": row["key"], "about": row["about"], "of": pairs})
    if not rows:
        return None
    told = {"data": group["data"], "runs": group["runs"]}
    return {**told, "rows": rows, "total": len(group["rows"])}
