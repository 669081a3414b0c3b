"""The page of a comparison of defences, and the files it is written to."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jaxinv.reports.defenses.plot import pareto_svg
from jaxinv.reports.defenses.verdict import AFFORDABLE, affordable, holds, judge
from jaxinv.reports.figure import both
from jaxinv.reports.folder import fresh_folder, jsonable, write_judged
from jaxinv.reports.images.verdict import LIMITS
from jaxinv.reports.page import render_page
from jaxinv.reports.verdict import Verdict

if TYPE_CHECKING:
    from jaxinv.audits.defenses import Comparison


def write_report(result: Comparison, out: str | os.PathLike[str]) -> Path:
    """Writes the report of a comparison; a file is replaced whole or not at all.

    Args:
      result: what `compare` returned.
      out: the folder, made if missing. Pictures of an earlier audit in it are removed.

    Returns:
      The path of `report.html`.

    Raises:
      OSError: something could not be written.
    """
    return write_judged(result, fresh_folder(out), judge, render)


def render(result: Comparison, verdict: Verdict) -> str:
    """The page, as text; see `page.html.j2` for what it says."""
    report = jsonable(result.report)
    return render_page(
        "defenses/page.html.j2",
        report=report,
        verdict=verdict,
        front=both(partial(pareto_svg, report["rows"])),
        holding=[row["defense"] for row in report["rows"] if holds(row, report)],
        cheap=[row["defense"] for row in report["rows"] if affordable(row)],
        recognisable=LIMITS["recognisable"][0],
        affordable=AFFORDABLE,
    )
