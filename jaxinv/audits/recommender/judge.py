"""Judging: a user's true ratings beside those an attack returned.

Everything here knows the truth, and comes after the attack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv import metrics
from jaxinv.attacks.base import Status
from jaxinv.audits.convergence import convergence
from jaxinv.audits.facts import number
from jaxinv.models.recommenders import Profile, Recommender
from jaxinv.run import Run


class UserRatings(NamedTuple):
    """One user's ratings, in the units of the data."""

    user: int
    """Its number in the data, from 0."""
    true: np.ndarray
    """`[N]`, of the items the client trained on."""
    found: np.ndarray
    """`[N]`, as the attack returned them, not yet put on the scale's grid."""


@dataclass
class Judged:
    """One user after the truth was brought in."""

    run: Run
    entry: dict[str, Any]
    ratings: UserRatings


def marks(model: Recommender, truth: Profile, found: Profile) -> dict[str, jax.Array]:
    """Metrics of one user; pure, for vmap.

    Args:
      model: what was trained.
      truth: the secret, `user` `[rounds, D]`.
      found: what the attack returned, `user` `PerRound` of that.

    Returns:
      Scalars: "mae" in the units of the data, "exact", the share of ratings that are
      right once put on the grid, "auc", "embedding_error", "items_f1" of the items
      that were found to be rated; of interactions also their "f1".
    """
    scale, rated = model.scale, truth.rated
    every = jnp.ones_like(rated)
    values = {
        "mae": scale.high * metrics.rating_mae(truth.ratings, found.ratings, rated),
        "exact": metrics.exact_ratings(
            truth.ratings, scale.snapped(found.ratings), rated
        ),
        "auc": metrics.interaction_auc(truth.ratings, found.ratings, rated),
        "embedding_error": metrics.embedding_error(truth.user, found.user.value),
        "items_f1": metrics.interaction_f1(rated, found.rated, every),
    }
    if scale.implicit:
        values["f1"] = metrics.interaction_f1(truth.ratings, found.ratings, rated)
    return values


class Judge:
    """Holds what is the same for all users, and judges one after the other."""

    def __init__(self, model: Recommender, guess: float) -> None:
        """Takes what is the same for all users.

        Args:
          model: what was trained.
          guess: the rating to say everywhere without having seen an update, in the
            units of the data.
        """
        self._model, self._guess = model, guess
        self._marks = jax.jit(lambda truth, found: marks(model, truth, found))

    def __call__(self, user: int, truth: Profile, run: Run) -> Judged:
        """Metrics of one user.

        Args:
          user: in the data.
          truth: its secret, leaves without an axis of clients.
          run: what the attack returned.
        """
        found, scale = run.found, self._model.scale
        rated = np.asarray(truth.rated) > 0
        true = scale.high * np.asarray(truth.ratings, np.float64)[rated]
        guessed = scale.high * np.asarray(found.batch.ratings, np.float64)[rated]
        apart = np.abs(true - self._guess)
        entry = {
            "user": int(user),
            "num_ratings": int(rated.sum()),
            **{
                name: number(value)
                for name, value in self._marks(truth, found.batch).items()
            },
            "gradient_loss": number(found.score),
            "status": Status(int(found.status)).name,
            "seconds": number(run.seconds),
            "guess_mae": number(apart.mean()),
            "guess_exact": number((apart < scale.step / 2).mean()),
            "convergence": convergence(run),
        }
        return Judged(run, entry, UserRatings(int(user), true, guessed))
