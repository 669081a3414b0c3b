"""The page of an audit of images, its pictures, and the files they are written to."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jaxinv.reports.figure import both
from jaxinv.reports.folder import (
    fresh_folder,
    jsonable,
    replace_file,
    write_judged,
)
from jaxinv.reports.images import plot
from jaxinv.reports.images.curves import curves_svg
from jaxinv.reports.images.evidence import agreement, evidence_svg
from jaxinv.reports.images.verdict import LIMITS, RATINGS, judge, rate
from jaxinv.reports.page import data_uri, render_page
from jaxinv.reports.verdict import Verdict

if TYPE_CHECKING:
    from jaxinv.audits.images import AuditResult

MAX_IN_GALLERY = 64
"""Examples shown on the page; the pictures of all are in the folder."""

SHOWN = 12
"""Examples of it that are open; a reader of a phone unfolds the others."""


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
    folder = fresh_folder(out)
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    for row in result.pictures:
        sheet = plot.contact_sheet([row], side=192)
        replace_file(pictures / f"example-{row.index:05d}.png", plot.png(sheet))
    if result.pictures:
        sheet = plot.contact_sheet(result.pictures)
        replace_file(pictures / "reconstructions.png", plot.png(sheet))
    return write_judged(result, folder, judge, render)


def render(result: AuditResult, verdict: Verdict) -> str:
    """The page, as text; see `page.html.j2` for what it says."""
    report = jsonable(result.report)
    rows = {row.index: row for row in result.pictures[:MAX_IN_GALLERY]}
    gallery = [
        {
            "example": example,
            "rating": RATINGS[rate(example)],
            "true": data_uri(plot.png(plot.picture(rows[index].true))),
            "found": data_uri(plot.png(plot.picture(rows[index].found))),
            "oracle": data_uri(plot.png(plot.picture(rows[index].oracle))),
        }
        for example in report["examples"]
        if (index := example["index"]) in rows
    ]
    return render_page(
        "images/page.html.j2",
        report=report,
        verdict=verdict,
        gallery=gallery,
        shown=SHOWN,
        curves=both(partial(curves_svg, result.curves)),
        evidence=both(partial(evidence_svg, report, result.curves)),
        agreement=agreement(report, result.curves),
        ratings={e["index"]: RATINGS[rate(e)] for e in report["examples"]},
        names={"true": plot.TRUE, "found": plot.FOUND, "oracle": plot.ORACLE},
        limits=LIMITS,
        words=RATINGS,
    )
