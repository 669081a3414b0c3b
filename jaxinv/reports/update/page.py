"""The page of an audit of an update, its pictures, and where they are written."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxinv.reports.figure import both
from jaxinv.reports.folder import fresh_folder, jsonable, replace_file, write_judged
from jaxinv.reports.images import plot
from jaxinv.reports.images.curves import curves_svg
from jaxinv.reports.images.verdict import RATINGS, rate
from jaxinv.reports.page import data_uri, render_page
from jaxinv.reports.update.verdict import AGREE, EXPLAINS, STRENGTHS, judge, strength
from jaxinv.reports.verdict import Verdict

if TYPE_CHECKING:
    from jaxinv.audits.update import UpdateResult

MAX_IN_GALLERY = 64
"""Examples shown on the page; the pictures of all are in the folder."""

COLUMNS = {
    "true": "true",
    "found": "recovered",
    "second": "next best start",
    "control": "from a wrong update",
}
"""What stands beside each other for every example, where there is such a picture."""


def write_report(result: UpdateResult, out: str | os.PathLike[str]) -> Path:
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
    for index, row in enumerate(_rows(result)):
        image = plot.picture(row["found"], side=192)
        replace_file(pictures / f"example-{index:05d}.png", plot.png(image))
    return write_judged(result, folder, judge, render)


def render(result: UpdateResult, verdict: Verdict) -> str:
    """The page, as text; see `page.html.j2` for what it says."""
    report = jsonable(result.report)
    gallery = [
        {
            "pictures": {
                name: data_uri(plot.png(plot.picture(pixels)))
                for name, pixels in row.items()
            },
            "label": report["evidence"]["labels"][index],
            "example": report["examples"][index] if report["examples"] else None,
        }
        for index, row in enumerate(_rows(result)[:MAX_IN_GALLERY])
    ]
    return render_page(
        "update/page.html.j2",
        report=report,
        verdict=verdict,
        gallery=gallery,
        curves=both(partial(curves_svg, result.curves)),
        columns=COLUMNS,
        strength=STRENGTHS[strength(report)],
        agree=AGREE,
        explains=EXPLAINS,
        ratings=[RATINGS[rate(e)] for e in report["examples"]],
    )


def _rows(result: UpdateResult) -> list[dict[str, Any]]:
    """Pictures of every example by the keys of `COLUMNS`, uint8 `[H, W, C]`."""
    best = result.best
    columns: dict[str, Any] = {"found": best.evidence.pixels}
    if best.judged is not None:
        # In the order of the truth.
        shown = best.judged.pictures
        columns = {
            "true": np.stack([p.true for p in shown]),
            "found": np.stack([p.found for p in shown]),
        }
    elif best.evidence.second is not None:
        columns["second"] = best.evidence.second
    if best.control is not None:
        columns["control"] = best.control.pixels
    if not _drawable(best.evidence.pixels):
        return []
    num = len(best.evidence.pixels)
    return [{n: _picture(p[i]) for n, p in columns.items()} for i in range(num)]


def _drawable(pixels: np.ndarray) -> bool:
    return pixels.ndim == 4 and pixels.shape[-1] in (1, 3)


def _picture(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    finite = np.nan_to_num(np.asarray(pixels, np.float64), nan=0.0)
    return np.round(np.clip(finite, 0.0, 1.0) * 255).astype(np.uint8)
