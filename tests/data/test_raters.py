"""Which users are looked at."""

import numpy as np
import pytest

from jaxinv.data.raters import raters, spread
from jaxinv.data.ratings import Ratings
from jaxinv.errors import InputError

COUNTS = [5, 1, 9, 3, 7]
USERS = np.repeat(np.arange(5, dtype=np.int32), COUNTS)
RATINGS = Ratings(USERS, USERS, np.ones(len(USERS), np.float32), 5, 5, "made up")


def test_enough_and_not_too_many():
    assert raters(RATINGS, 1) == [0, 1, 2, 3, 4]
    assert raters(RATINGS, 5) == [0, 2, 4]
    assert raters(RATINGS, 3, 7) == [0, 3, 4]


def test_nobody_fits():
    says = "least_ratings is 10 and most_ratings None; .* they have 1 to 9 ratings"
    with pytest.raises(InputError, match=says):
        raters(RATINGS, 10)


def test_spread_evenly_with_both_ends():
    assert spread(list(range(100, 111)), 3) == [100, 105, 110]
    assert spread([4, 5], 9) == [4, 5]
    assert spread([4, 5, 6], 1) == [4]
