"""How the restarts converged: the best one's way down, and where each of them ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxinv.reports.figure import LIGHT, Colours, draw

if TYPE_CHECKING:
    from jaxinv.audits.images.judge import Curve

MAX_COLUMNS = 32
"""Batches whose restarts are drawn; more columns than this would touch each other."""


def curves_svg(curves: Sequence[Curve], colours: Colours = LIGHT) -> bytes | None:
    """The best start's score over the steps, beside the last score of every start.

    Args:
      curves: one for each batch. Those without two finite scores are left out.
      colours: of the page it is drawn for.

    Returns:
      The file, or None where no curve has anything to show.

    Raises:
      ImportError: matplotlib is not installed.
    """
    drawn = [_finite(curve) for curve in curves]
    drawn = [one for one in drawn if len(one[0]) > 1]
    if not drawn:
        return None
    every = np.concatenate([np.concatenate([s, ends]) for _, s, ends in drawn])
    wide = every.min() > 0 and every.max() > 10 * every.min()

    def paint(figure: Any, colours: Colours) -> None:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for steps, score, _ in drawn:
            left.plot(steps, score, color=colours.line, linewidth=1.2, alpha=0.8)
        for place, (_, _, ends) in enumerate(drawn[:MAX_COLUMNS]):
            right.plot(
                [place] * len(ends), ends, "_", ms=7, color=colours.line, alpha=0.7
            )
            right.plot(place, np.median(ends), "o", ms=3.5, color=colours.ink)
        if wide:
            left.set_yscale("log")
            left.yaxis.set_minor_formatter("")
        left.set(xlabel="step", ylabel="attacker's score", title="best restart")
        right.set(xlabel="batch", title="end of each restart")
        right.set_xticks([])
        right.tick_params(axis="y", which="both", length=0)
        right.set_xlim(-0.8, min(len(drawn), MAX_COLUMNS) - 0.2)
        for axes in (left, right):
            axes.title.set_fontsize(10)
            axes.grid(True, axis="y", color=colours.rule, linewidth=0.6)

    return draw(paint, colours, size=(5.8, 3.2))


def _finite(curve: Curve) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps, scores and the restarts' last scores, those that are finite."""
    steps, score, ends = (
        np.asarray(values, float).reshape(-1)
        for values in (curve.steps, curve.score, curve.restart_scores)
    )
    good = np.isfinite(score)
    ends = ends[np.isfinite(ends)]
    return steps[good], score[good], ends if len(ends) else score[good][-1:]
