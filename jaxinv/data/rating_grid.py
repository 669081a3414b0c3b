"""The grid that ratings stand on, read from the ratings."""

import math
from fractions import Fraction
from functools import reduce

import numpy as np

from jaxinv.errors import InputError

FINEST = 1000
"""Steps of a grid at most: finer than a thousandth of the scale there is none."""


def rating_grid(ratings: np.ndarray) -> tuple[float, float, float]:
    """The lowest rating, the highest, and the greatest step that reaches every one.

    Args:
      ratings: `[R]`, finite. Steps are taken as fractions with a denominator up to
        1000, so that thirds and tenths are found in float32.

    Returns:
      low, high, step.

    Raises:
      InputError: fewer than two different ratings, which make no scale.
    """
    values = [
        Fraction(value).limit_denominator(1000) for value in np.unique(ratings).tolist()
    ]
    low, high = values[0], values[-1]
    if low == high:
        raise InputError(
            f"data holds the rating {float(low):g} alone; expected at least two "
            "different ones, the ends of a scale"
        )
    step = reduce(_common, (value - low for value in values[1:]))
    return float(low), float(high), float(max(step, (high - low) / FINEST))


def _common(a: Fraction, b: Fraction) -> Fraction:
    """The greatest fraction of which both are multiples."""
    below = math.lcm(a.denominator, b.denominator)
    return Fraction(math.gcd(int(a * below), int(b * below)), below)
