"""The page of an audit of graphs, and the files it is written to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from jaxinv.reports.folder import fresh_folder, jsonable, write_judged
from jaxinv.reports.graphs.gallery import gallery
from jaxinv.reports.graphs.verdict import judge, rate, rating, sent
from jaxinv.reports.page import render_page
from jaxinv.reports.verdict import Verdict

if TYPE_CHECKING:
    from jaxinv.audits.graphs import AuditResult


def write_report(result: AuditResult, out: str | os.PathLike[str]) -> Path:
    """Writes the report of an audit; a file is replaced whole or not at all.

    Args:
      result: what `run_audit` returned.
      out: the folder, made if missing. Pictures of an earlier audit in it are removed.

    Returns:
      The path of `report.html`.

    Raises:
      OSError: something could not be written.
      InputError: molecules are drawn, and RDKit is not installed.
    """
    return write_judged(result, fresh_folder(out), judge, render)


def render(result: AuditResult, verdict: Verdict) -> str:
    """The page, as text; see `page.html.j2` for what it says."""
    report = jsonable(result.report)
    graphs = report["graphs"]
    return render_page(
        "graphs/page.html.j2",
        report=report,
        verdict=verdict,
        gallery=gallery(report),
        sent=sent(report),
        rates={entry["index"]: rate(entry) for entry in graphs},
        ratings={entry["index"]: rating(entry) for entry in graphs},
        nodes="atoms" if report["unit"] == "molecule" else "nodes",
        edges="bonds" if report["unit"] == "molecule" else "edges",
    )
