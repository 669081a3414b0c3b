"""The page of an audit of a recommender, and the files it is written to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from jaxinv.reports.folder import fresh_folder, jsonable, write_judged
from jaxinv.reports.page import render_page
from jaxinv.reports.recommender.strip import strip
from jaxinv.reports.recommender.verdict import (
    RATINGS,
    judge,
    noun,
    rate,
    words,
)
from jaxinv.reports.verdict import Verdict

if TYPE_CHECKING:
    from jaxinv.audits.recommender import AuditResult

MAX_SHOWN = 4
"""Users whose ratings are drawn; the table has all."""


def write_report(result: AuditResult, out: str | os.PathLike[str]) -> Path:
    """Writes the report of an audit; a file is replaced whole or not at all.

    Args:
      result: what `run_audit` returned.
      out: the folder, made if missing. Pictures of an earlier audit in it are removed.

    Returns:
      The path of `report.html`.

    Raises:
      OSError: something could not be written.
    """
    return write_judged(result, fresh_folder(out), judge, render)


def render(result: AuditResult, verdict: Verdict) -> str:
    """The page, as text; see `page.html.j2` for what it says."""
    report = jsonable(result.report)
    scale, called = report["dataset"]["scale"], words(report, RATINGS)
    drawn = {
        row.user: strip(row, scale["low"], scale["high"])
        for row in _spread(result.ratings)
    }
    return render_page(
        "recommender/page.html.j2",
        report=report,
        verdict=verdict,
        strips=[
            (user, drawn[user["user"]])
            for user in report["users"]
            if user["user"] in drawn
        ],
        rating=noun(report),
        ratings={user["user"]: called[rate(user)] for user in report["users"]},
    )


def _spread(rows: list) -> list:
    """`MAX_SHOWN` of the users, from the shortest list to the longest."""
    if len(rows) <= MAX_SHOWN:
        return rows
    return [rows[i * (len(rows) - 1) // (MAX_SHOWN - 1)] for i in range(MAX_SHOWN)]
