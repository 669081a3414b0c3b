"""Interactions: what was rated, and negatives beside it."""

import numpy as np
import pytest

from jaxinv.data.implicit import interactions
from jaxinv.data.ratings import Ratings, generated_ratings
from jaxinv.errors import InputError

RATINGS = generated_ratings(num_users=6, num_items=400)


def test_every_rated_item_is_one_and_four_others_are_zero():
    made = interactions(RATINGS)
    assert made[3:] == RATINGS[3:]
    for user in range(6):
        rated, _ = RATINGS.of(user)
        items, values = made.of(user)
        # Distinct, or np.unique would be shorter.
        assert len(np.unique(items)) == len(items)
        np.testing.assert_array_equal(items[values == 1], rated)
        num_zeros = np.sum(values == 0)
        assert num_zeros == min(4 * len(rated), 400 - len(rated))
        assert num_zeros + len(rated) == len(items)


def test_there_are_no_more_negatives_than_items():
    user, item = np.array([0, 0, 0, 1], np.int32), np.array([0, 1, 2, 0], np.int32)
    few = Ratings(user, item, np.ones(4, np.float32), 2, 4, "made up")
    made = interactions(few)
    np.testing.assert_array_equal(made.of(0)[1], [1, 1, 1, 0])
    np.testing.assert_array_equal(made.of(1)[1], [1, 0, 0, 0])
    np.testing.assert_array_equal(interactions(few, negatives=0).rating, np.ones(4))


def test_the_seed_draws_them():
    first, same, other = (interactions(RATINGS, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.item, same.item)
    assert np.any(first.of(0)[0] != other.of(0)[0])
    with pytest.raises(InputError, match="negatives is -1; expected 0 or more"):
        interactions(RATINGS, negatives=-1)
