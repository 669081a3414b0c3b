"""Which users to look at, out of many."""

import numpy as np

from jaxinv.data.ratings import Ratings
from jaxinv.errors import InputError


def raters(ratings: Ratings, least: int, most: int | None = None) -> list[int]:
    """Users with at least `least` ratings, and at most `most` where that is given.

    Raises:
      InputError: there is none.
    """
    counts = np.bincount(ratings.user, minlength=ratings.num_users)
    fitting = counts >= least
    if most is not None:
        fitting &= counts <= most
    if not fitting.any():
        raise InputError(
            f"least_ratings is {least} and most_ratings {most}; expected numbers that "
            f"leave some user: they have {counts.min()} to {counts.max()} ratings"
        )
    return np.flatnonzero(fitting).tolist()


def spread(users: list[int], count: int) -> list[int]:
    """`count` of the users, or all of fewer, evenly over the list."""
    places = np.linspace(0, len(users) - 1, min(count, len(users)))
    return [users[place] for place in places.astype(int)]
