"""The page of a sweep, and the files it is written to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxinv.reports.figure import both
from jaxinv.reports.folder import fresh_folder, jsonable, write_judged
from jaxinv.reports.images.verdict import RATINGS, rate
from jaxinv.reports.page import data_uri, render_page
from jaxinv.reports.sweep import plot
from jaxinv.reports.sweep.measures import Measure, measure_of
from jaxinv.reports.sweep.verdict import judge, levels, strongest
from jaxinv.reports.table import Column
from jaxinv.reports.verdict import Verdict

if TYPE_CHECKING:
    from jaxinv.sweeps.record import Swept

MOST_ROWS = 1000
"""In a table of the page; `report.json` has all lines, the Parquet files all rows."""

OF_LINE = tuple(map(Column, ("case", "defence", "attack", "attacker", "options")))

OF_ROW = (
    Column("job", "number", 0),
    *map(Column, ("case", "defence", "attack", "attacker")),
    Column("seed", "number", 0),
    Column("index", "number", 0),
    Column("judged"),
)


def write_report(result: Swept, out: str | os.PathLike[str]) -> Path:
    """Writes the report of a sweep; a file is replaced whole or not at all.

    Args:
      result: of `jaxinv.sweeps.record`.
      out: the folder.

    Returns:
      The path of `report.html`.

    Raises:
      OSError: something could not be written.
    """
    return write_judged(result, fresh_folder(out), judge, render)


def render(result: Swept, verdict: Verdict) -> str:
    """The page, as text; see `page.html.j2` for what it says."""
    report, rows = jsonable(result.report), jsonable(result.rows)
    measure = measure_of(report)
    found, best = levels(report), strongest(report)
    settings = [
        (*key, measure.words[level], measure.value.of(best[key]), _by(best[key]))
        for key, level in found.items()
    ]
    value, searched = measure.value.column, any("score" in row for row in rows)
    return render_page(
        "sweep/page.html.j2",
        report=report,
        verdict=verdict,
        measure=measure,
        value=value.title,
        settings_figure=both(partial(plot.settings_svg, report)),
        scores_figure=both(partial(plot.scores_svg, report, rows)),
        searched=searched,
        settings_columns=(
            Column("case"),
            Column("defence"),
            Column("judged"),
            value._replace(title=f"{value.title} of the strongest"),
            Column("which"),
        ),
        settings_rows=settings[:MOST_ROWS],
        num_settings=len(settings),
        line_columns=(
            *OF_LINE,
            Column("examples", "number", 0),
            value,
            value._replace(title="from"),
            value._replace(title="to"),
            *(shown.column for shown in measure.of_line),
            Column("ended"),
        ),
        line_rows=[_line(measure, line) for line in report["lines"][:MOST_ROWS]],
        example_columns=(
            *OF_ROW,
            *(shown.column for shown in measure.of_row),
            *([Column("score", "number")] if searched else []),
            Column("status"),
        ),
        example_rows=[_example(measure, row) for row in rows[:MOST_ROWS]],
        num_rows=len(rows),
        gallery=[_card(row) for row in result.pictures if row["true"]],
    )


def _by(line: Mapping[str, Any]) -> str:
    return ", ".join([line["attack"], line["attacker"], *line["varied"]])


def _line(measure: Measure, line: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        *(line[n] for n in ("case", "defense", "attack", "attacker")),
        ", ".join(line["varied"]) or "as given",
        line["examples"],
        measure.value.of(line),
        *(measure.interval(line) or (None, None)),
        *(shown.of(line) for shown in measure.of_line),
        ", ".join(f"{number} {name}" for name, number in line["statuses"].items()),
    )


def _example(measure: Measure, row: Mapping[str, Any]) -> tuple[Any, ...]:
    names = ("job", "case", "defense", "attack", "attacker", "seed", "index")
    return (
        *(row[n] for n in names),
        measure.rating(row),
        *(shown.of(row) for shown in measure.of_row),
        *([row["score"]] if "score" in row else []),
        row["status"],
    )


def _card(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "row": jsonable({k: v for k, v in row.items() if not isinstance(v, bytes)}),
        "rating": RATINGS[rate(row)],
        "true": data_uri(row["true"]),
        "found": data_uri(row["recovered"]),
    }
