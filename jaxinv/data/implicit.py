"""Implicit feedback: ratings as interactions, with negatives drawn beside them."""

import numpy as np

from jaxinv.data.ratings import Ratings
from jaxinv.errors import InputError


def interactions(ratings: Ratings, *, negatives: int = 4, seed: int = 0) -> Ratings:
    """Every rated item as a 1, and for each some that the user has not rated as 0.

    Negatives are drawn once, for all rounds. A client that draws them anew in every
    round is another case: MGradInv's `items="own"` is for that one.

    Args:
      ratings: who rated what; the ratings themselves are not read.
      negatives: items not rated for each rated one, drawn without replacement; as
        many as there are where the catalogue holds fewer.
      seed: of the draw.

    Returns:
      Users in their order, the items of each in theirs, ratings 0 or 1.

    Raises:
      InputError: `negatives` is below 0.
    """
    if negatives < 0:
        raise InputError(f"negatives is {negatives}; expected 0 or more")
    rng = np.random.default_rng(seed)
    users, items, values = [], [], []
    for user in np.unique(ratings.user):
        liked = np.zeros(ratings.num_items, bool)
        liked[ratings.of(user)[0]] = True
        left = np.flatnonzero(~liked)
        count = min(negatives * int(liked.sum()), len(left))
        held = liked.copy()
        held[rng.choice(left, count, replace=False)] = True
        items.append(np.flatnonzero(held))
        values.append(liked[held])
        users.append(np.full(held.sum(), user))
    return ratings._replace(
        user=np.concatenate(users).astype(np.int32),
        item=np.concatenate(items).astype(np.int32),
        rating=np.concatenate(values).astype(np.float32),
    )
