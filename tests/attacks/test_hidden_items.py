"""Items hidden among the catalogue by noise on every row, and MGradInv finding them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv import metrics
from jaxinv.attacks.base import Status, iterate, restarts
from jaxinv.attacks.mgradinv import mgradinv
from jaxinv.data.ratings import generated_ratings, grouped
from jaxinv.federation import observed_alone, observed_steps
from jaxinv.models.recommenders import RatingScale, build_recommender
from jaxinv.transit import in_transit

KEY = jax.random.key(0)
RATINGS = generated_ratings()
MF = build_recommender("mf", RatingScale(), dim=8)
KEYS = jax.random.split(jax.random.key(3), 6)


pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(scope="module")
def clients():
    (group,) = grouped(RATINGS, range(6), scale=5, every_item=True)
    steps = observed_steps(0, 10, 3)
    return observed_alone(KEY, MF, group, RATINGS.num_items, steps, 0.3)


def attacked(clients, items):
    """Shares of ratings that are exact, F1 scores of the items, statuses."""
    attack = iterate(restarts(mgradinv(MF, num_steps=30, items=items), 4, batch_size=4))

    def one(key, seen):
        return attack(key, in_transit(key, seen, noise=0.01, every_row=True))

    seen, truth = clients
    found = jax.jit(lambda o: jax.lax.map(lambda pair: one(*pair), (KEYS, o)))(seen)
    snapped = MF.scale.snapped(found.batch.ratings)
    exact = jax.vmap(metrics.exact_ratings)(truth.ratings, snapped, truth.rated)
    every = jnp.ones_like(truth.rated)
    f1 = jax.vmap(metrics.interaction_f1)(truth.rated, found.batch.rated, every)
    return np.asarray(exact), np.asarray(f1), np.asarray(found.status)


def test_every_row_moves_and_the_attack_is_lost(clients):
    exact, f1, status = attacked(clients, "same")
    assert exact.max() < 0.5 and f1.max() < 0.7
    assert (status != Status.OK).all()


def test_the_rows_that_stand_out_are_the_items(clients):
    exact, f1, _ = attacked(clients, "all")
    assert (f1 == 1).all()
    assert np.median(exact) == 1 and exact.mean() > 0.8
