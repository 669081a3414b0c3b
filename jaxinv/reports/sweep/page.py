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
from jaxinv.reports.sweep.verdict import judge, levels, strongest, words
from jaxinv.reports.table import Column
from jaxinv.reports.verdict import Verdict

if TYPE_CHECKING:
    from jaxinv.sweeps.record import Swept

MOST_ROWS = 1000
"""In a table of the page; `report.json` has all lines, the Parquet files all rows."""

SETTINGS = (
    Column("case"),
    Column("defence"),
    Column("judged"),
    Column("PSNR of the strongest, dB", "number", 2),
    Column("which"),
)

LINES = (
    Column("case"),
    Column("defence"),
    Column("attack"),
    Column("attacker"),
    Column("options"),
    Column("examples", "number", 0),
    Column("PSNR, dB", "number", 2),
    Column("from", "number", 2),
    Column("to", "number", 2),
    Column("best", "number", 2),
    Column("SSIM", "number", 3),
    Column("singled out", "number", 0),
    Column("labels right, %", "number", 0),
    Column("diverged", "number", 0),
    Column("gave up", "number", 0),
)

EXAMPLES = (
    Column("job", "number", 0),
    Column("case"),
    Column("defence"),
    Column("attack"),
    Column("attacker"),
    Column("seed", "number", 0),
    Column("example", "number", 0),
    Column("judged"),
    Column("PSNR, dB", "number", 2),
    Column("SSIM", "number", 3),
    Column("rank", "number", 0),
    Column("score", "number"),
    Column("status"),
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
    found = levels(report)
    best = strongest(report)
    settings = [
        (*key, words(level), best[key]["psnr"], _by(best[key]))
        for key, level in found.items()
    ]
    return render_page(
        "sweep/page.html.j2",
        report=report,
        verdict=verdict,
        settings_figure=both(partial(plot.settings_svg, report)),
        scores_figure=both(partial(plot.scores_svg, rows)),
        settings_columns=SETTINGS,
        settings_rows=settings[:MOST_ROWS],
        num_settings=len(settings),
        line_columns=LINES,
        line_rows=[_line(line) for line in report["lines"][:MOST_ROWS]],
        example_columns=EXAMPLES,
        example_rows=[_example(row) for row in rows[:MOST_ROWS]],
        num_rows=len(rows),
        gallery=[_card(row) for row in result.pictures if row["true"]],
    )


def _by(line: Mapping[str, Any]) -> str:
    return ", ".join([line["attack"], line["attacker"], *line["varied"]])


def _line(line: Mapping[str, Any]) -> tuple[Any, ...]:
    low, high = line["psnr_interval"] or (None, None)
    return (
        line["case"],
        line["defense"],
        line["attack"],
        line["attacker"],
        ", ".join(line["varied"]) or "as given",
        line["examples"],
        line["psnr"],
        low,
        high,
        line["psnr_best"],
        line["ssim"],
        line["identified"],
        100 * line["labels"],
        line["diverged"],
        line["gave_up"],
    )


def _example(row: Mapping[str, Any]) -> tuple[Any, ...]:
    names = ("job", "case", "defense", "attack", "attacker", "seed", "index")
    numbers = ("psnr", "ssim", "rank", "score", "status")
    judged = RATINGS[rate(row)]
    return (*(row[n] for n in names), judged, *(row[n] for n in numbers))


def _card(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "row": jsonable({k: v for k, v in row.items() if not isinstance(v, bytes)}),
        "rating": RATINGS[rate(row)],
        "true": data_uri(row["true"]),
        "found": data_uri(row["recovered"]),
    }
