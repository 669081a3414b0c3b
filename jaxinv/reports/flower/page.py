"""The page of a federation, and the files it is written to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jaxinv.reports.figure import both
from jaxinv.reports.flower import plot
from jaxinv.reports.flower.verdict import examples_of, judge
from jaxinv.reports.folder import fresh_folder, jsonable, write_both
from jaxinv.reports.images.verdict import RATINGS, rate
from jaxinv.reports.page import render_page
from jaxinv.reports.table import Column
from jaxinv.reports.verdict import Verdict

MOST_ROWS = 1000
"""In a table of the page; `report.json` has all."""

ROUNDS = (
    Column("round", "number", 0),
    Column("replies", "number", 0),
    Column("images judged", "number", 0),
    Column("practically exact", "number", 0),
    Column("recognisable", "number", 0),
    Column("best PSNR, dB", "number", 1),
    Column("median PSNR, dB", "number", 1),
    Column("best score", "number"),
    Column("not sent", "number", 0),
)

REPLIES = (
    Column("round", "number", 0),
    Column("client", "number", 0),
    Column("images", "number", 0),
    Column("judged"),
    Column("best PSNR, dB", "number", 1),
    Column("mean PSNR, dB", "number", 1),
    Column("singled out, %", "number", 0),
    Column("status"),
    Column("score, client", "number"),
    Column("score, server", "number"),
    Column("kept back"),
    Column("seconds", "number", 2),
    Column("note"),
)


def write_report(report: Mapping[str, Any], out: str | os.PathLike[str]) -> Path:
    """Writes `report.json` and `report.html`; a file is replaced whole or not at all.

    Args:
      report: of `jaxinv.flower.report.record`.
      out: the folder.

    Returns:
      The path of `report.html`.

    Raises:
      OSError: something could not be written.
    """
    plain = jsonable(report)
    verdict = judge(plain)
    plain["verdict"] = jsonable(verdict._asdict())
    return write_both(fresh_folder(out), plain, render(plain, verdict))


def render(report: Mapping[str, Any], verdict: Verdict) -> str:
    """The page, as text; see `page.html.j2` for what it says."""
    numbers = {node: number for number, node in enumerate(report["clients"])}
    replies = report["replies"]
    return render_page(
        "flower/page.html.j2",
        report=report,
        verdict=verdict,
        figure_of_rounds=both(partial(plot.rounds_svg, report)),
        round_columns=ROUNDS,
        round_rows=[_round(row) for row in report["rounds"][:MOST_ROWS]],
        reply_columns=REPLIES,
        reply_rows=[_reply(row, numbers) for row in replies[:MOST_ROWS]],
        clients=list(numbers.items())[:MOST_ROWS],
    )


def _round(row: Mapping[str, Any]) -> tuple[Any, ...]:
    judged = row["examples"]
    seen = (row["exact"], row["recognisable"]) if judged else (None, None)
    names = ("psnr_best", "psnr_median", "score_best", "not_sent")
    return row["round"], row["replies"], judged, *seen, *(row[n] for n in names)


def _reply(row: Mapping[str, Any], numbers: Mapping[str, int]) -> tuple[Any, ...]:
    examples = examples_of(row)
    rated = {rate(example) for example in examples}
    worst = next((RATINGS[name] for name in RATINGS if name in rated), None)
    psnr = [e["psnr"] for e in examples if e["psnr"] is not None]
    share = row.get("identified")
    client, server = (row[side] or {} for side in ("client", "server"))
    said = dict.fromkeys(one["status"] for one in (client, server) if one)
    notes = dict.fromkeys(one["reason"] for one in (client, server) if one)
    return (
        row["round"],
        numbers[row["node"]],
        row["num_examples"],
        worst,
        max(psnr, default=None),
        sum(psnr) / len(psnr) if psnr else None,
        None if share is None else 100 * share,
        ", ".join(said),
        client.get("score"),
        server.get("score"),
        row.get("refused"),
        sum(side.get("seconds") or 0 for side in (client, server)),
        "; ".join(note for note in notes if note) or "none",
    )
