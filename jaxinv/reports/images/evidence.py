"""Score against truth: could the attacker tell a good picture from a bad one?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxinv.reports.figure import LIGHT, Colours, draw

if TYPE_CHECKING:
    from jaxinv.audits.images.judge import Curve

LEAST = 5
"""Points below which a rank correlation says nothing."""


class Agreement(NamedTuple):
    """Rank correlations of score and PSNR; -1 is an attacker who is always right."""

    examples: float | None
    """Over what was chosen, one point an example; None for fewer than `LEAST`."""
    restarts: float | None
    """Among the restarts of one batch, the median over batches; None likewise."""


def agreement(report: Mapping[str, Any], curves: Sequence[Curve]) -> Agreement:
    """How well the attacker's score orders examples, and the restarts of a batch.

    Args:
      report: the record of an audit.
      curves: one for each batch.
    """
    chosen = [(e["score"], e["psnr"]) for e in report["examples"]]
    within = [spearman(np.asarray(curve.kept)) for curve in curves]
    within = [one for one in within if one is not None]
    return Agreement(
        spearman(np.array(chosen, float).reshape(-1, 2)),
        float(np.median(within)) if within else None,
    )


def spearman(pairs: np.ndarray) -> float | None:
    """Rank correlation of two columns; None where there is none.

    Args:
      pairs: `[n, 2]`; rows that are not finite are left out.
    """
    # Here since SciPy's statistics take half a second to import.
    from scipy.stats import rankdata

    pairs = pairs[np.isfinite(pairs).all(1)]
    if len(pairs) < LEAST or (pairs == pairs[0]).all(0).any():
        return None
    ranks = np.apply_along_axis(rankdata, 0, pairs)
    return float(np.corrcoef(ranks, rowvar=False)[0, 1])


def evidence_svg(
    report: Mapping[str, Any], curves: Sequence[Curve], colours: Colours = LIGHT
) -> bytes | None:
    """PSNR over score: a point for what was chosen, a small one for other restarts.

    Args:
      report: the record of an audit.
      curves: one for each batch.
      colours: of the page it is drawn for.

    Returns:
      The file, or None where fewer than two examples have both numbers.

    Raises:
      ImportError: matplotlib is not installed.
    """
    chosen = [
        (e["score"], e["psnr"], e["status"] == "OK")
        for e in report["examples"]
        if e["score"] is not None and e["psnr"] is not None
    ]
    if len(chosen) < 2:
        return None
    # The first of them is the one that was chosen.
    kept = [np.asarray(curve.kept, float).reshape(-1, 2)[1:] for curve in curves]
    others = np.concatenate([*kept, np.empty((0, 2))])
    others = others[np.isfinite(others).all(1)]
    scores = np.concatenate([others[:, 0], [score for score, _, _ in chosen]])

    def paint(figure: Any, colours: Colours) -> None:
        axes = figure.add_subplot()
        if len(others):
            style = {"ms": 2.5, "color": colours.other, "label": "other restarts"}
            axes.plot(*others.T, "o", **style)
        for ok, mark, name in (
            (True, "o", "chosen, OK"),
            (False, "X", "chosen, not OK"),
        ):
            points = [(score, psnr) for score, psnr, fine in chosen if fine == ok]
            if points:
                style = {"ms": 6, "color": colours.line, "label": name}
                axes.plot(*zip(*points, strict=True), mark, alpha=0.85, **style)
        if scores.min() > 0 and scores.max() > 10 * scores.min():
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter("")
        axes.set_xlabel("attacker's score (lower is better to the attacker)")
        axes.set_ylabel("PSNR, dB")
        axes.grid(True, color=colours.rule, linewidth=0.6)
        axes.legend(
            frameon=False,
            labelcolor=colours.ink,
            fontsize=9,
            loc="best",
            handlelength=1,
        )

    return draw(paint, colours)
