"""Ratings side by side: coordinates of a strip with a dash and a dot for each item."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from jaxinv.audits.recommender.judge import UserRatings

MAX_ON_STRIP = 40
"""Items on one strip: more would not be told apart on a phone."""

_LEFT, _WIDTH, _TOP, _HEIGHT = 26.0, 440.0, 12.0, 96.0


class Mark(NamedTuple):
    """One item."""

    x: float
    """Where it stands."""
    true: float
    """Height of the true rating."""
    found: float | None
    """Height of the recovered one, None where it is no number."""


class Strip(NamedTuple):
    """A picture of one user's ratings, in its own units from the top left."""

    width: float
    height: float
    ticks: list[tuple[float, str]]
    """Heights of the scale's ends, and what they are called."""
    marks: list[Mark]
    """From the lowest true rating to the highest."""


def strip(ratings: UserRatings, low: float, high: float) -> Strip:
    """The picture of one user's ratings, or of an even choice of `MAX_ON_STRIP`.

    Args:
      ratings: true and recovered.
      low: the scale's lowest rating. A recovered rating off the scale is drawn just
        beyond its end.
      high: its highest.
    """
    order = np.argsort(ratings.true, kind="stable")
    if len(order) > MAX_ON_STRIP:
        places = np.linspace(0, len(order) - 1, MAX_ON_STRIP)
        order = order[places.astype(int)]
    beyond = 0.06

    def height(rating: float) -> float:
        share = min(max((rating - low) / (high - low), -beyond), 1 + beyond)
        return round(_TOP + _HEIGHT * (1 - share), 1)

    true, found = ratings.true[order].tolist(), ratings.found[order].tolist()

    marks = [
        Mark(
            round(_LEFT + _WIDTH * (place + 0.5) / len(true), 1),
            height(was),
            height(seems) if math.isfinite(seems) else None,
        )
        for place, (was, seems) in enumerate(zip(true, found, strict=True))
    ]
    ticks = [(height(end), f"{end:g}") for end in (low, high)]
    return Strip(_LEFT + _WIDTH, 2 * _TOP + _HEIGHT, ticks, marks)
