"""The scale that is read from ratings."""

import numpy as np
import pytest

from jaxinv.data.rating_grid import FINEST, rating_grid
from jaxinv.data.ratings import generated_ratings
from jaxinv.errors import InputError


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5, 1, 3, 4], (1, 5, 1)),
        ([1, 5, 3], (1, 5, 2)),
        ([0.5, 5, 3.5], (0.5, 5, 1.5)),
        ([0.5, 4.5, 3, 5], (0.5, 5, 0.5)),
        # Neither is a float32.
        ([0.1, 0.3, 0.8], (0.1, 0.8, 0.1)),
        ([1 / 3, 1, 2], (1 / 3, 2, 1 / 3)),
        ([2, 10], (2, 10, 8)),
    ],
)
def test_the_greatest_common_step(values, expected):
    found = rating_grid(np.asarray(values, np.float32))
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_generated_ratings_are_half_stars():
    assert rating_grid(generated_ratings().rating) == (0.5, 5.0, 0.5)


def test_no_grid_is_a_thousandth():
    low, high, step = rating_grid(np.random.default_rng(0).uniform(1, 5, 200))
    assert step == pytest.approx((high - low) / FINEST)


def test_one_rating_alone_is_no_scale():
    with pytest.raises(InputError, match=r"holds the rating 3\.5 alone; expected at"):
        rating_grid(np.full(9, 3.5, np.float32))
