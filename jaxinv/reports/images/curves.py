"""How the restarts converged: the best one's way, the middle half's, and the ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxinv.reports.figure import LIGHT, Colours, draw

if TYPE_CHECKING:
    from jaxinv.audits.images.judge import Curve

MAX_COLUMNS = 32
"""Batches whose restarts are drawn; more columns than this would touch each other."""


def curves_svg(curves: Sequence[Curve], colours: Colours = LIGHT) -> bytes | None:
    """The best start's score and the quartiles of all, beside every start's last score.

    Args:
      curves: one for each batch. Those without two finite scores are left out.
      colours: of the page it is drawn for.

    Returns:
      The file, or None where no curve has anything to show.

    Raises:
      ImportError: matplotlib is not installed.
    """
    drawn = [one for one in map(_finite, curves) if len(one.steps) > 1]
    if not drawn:
        return None
    every = np.concatenate([np.concatenate([one.score, one.ends]) for one in drawn])
    wide = every.min() > 0 and every.max() > 10 * every.min()

    # Where many lie over each other, each is fainter.
    shade = 0.3 / len(drawn) ** 0.5

    def paint(figure: Any, colours: Colours) -> None:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for one in drawn:
            left.plot(one.steps, one.score, color=colours.line, lw=1.2, alpha=0.8)
            if len(one.lower):
                band = one.steps, one.lower, one.upper
                left.fill_between(*band, color=colours.line, lw=0, alpha=shade)
        for place, one in enumerate(drawn[:MAX_COLUMNS]):
            places = [place] * len(one.ends)
            right.plot(places, one.ends, "_", ms=7, color=colours.line, alpha=0.7)
            right.plot(place, np.median(one.ends), "o", ms=3.5, color=colours.ink)
        if wide:
            left.set_yscale("log")
            left.yaxis.set_minor_formatter("")
        left.set(xlabel="step", ylabel="attacker's score", title="best and quartiles")
        right.set(xlabel="batch", title="end of each restart")
        right.set_xticks([])
        right.tick_params(axis="y", which="both", length=0)
        right.set_xlim(-0.8, min(len(drawn), MAX_COLUMNS) - 0.2)
        for axes in (left, right):
            axes.title.set_fontsize(10)
            axes.grid(True, axis="y", color=colours.rule, linewidth=0.6)

    return draw(paint, colours, size=(5.8, 3.2))


class _Drawn(NamedTuple):
    """A curve where its score is finite."""

    steps: np.ndarray
    score: np.ndarray
    lower: np.ndarray
    """The lower quartile at each of the steps; empty of a single start."""
    upper: np.ndarray
    ends: np.ndarray
    """The finite ones, in no order."""


def _finite(curve: Curve) -> _Drawn:
    steps, score, ends = (
        np.asarray(values, float).reshape(-1)
        for values in (curve.steps, curve.score, curve.restart_scores)
    )
    good = np.isfinite(score)
    ends = ends[np.isfinite(ends)]
    lower = upper = np.zeros(0)
    # The quartiles of a single start are its curve.
    if len(curve.spread.starts) and curve.spread.starts[0] > 1:
        lower, _, upper = curve.spread.quartiles[good].T
    ends = ends if len(ends) else score[good][-1:]
    return _Drawn(steps[good], score[good], lower, upper, ends)
