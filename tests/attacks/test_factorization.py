"""The closed form: exact ratings from two rounds, and honest about what it cannot."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.attacks.base import Status
from jaxinv.attacks.factorization import factorization
from jaxinv.data.ratings import generated_ratings, grouped
from jaxinv.errors import InputError
from jaxinv.federation import observed_alone, observed_steps
from jaxinv.models.recommenders import RatingScale, build_recommender

KEY = jax.random.key(0)
RATINGS = generated_ratings()
MODEL = build_recommender("mf", RatingScale(), dim=8)
GROUP = grouped(RATINGS, range(RATINGS.num_users), scale=5, growth=100)[0]
SOLVE = jax.jit(jax.vmap(factorization(MODEL), (None, 0)))


pytestmark = pytest.mark.usefixtures("compiled_quickly")


def clients(steps, model=MODEL, rate=0.1):
    return observed_alone(KEY, model, GROUP, RATINGS.num_items, steps, rate)


def exact(found, truth):
    snapped = MODEL.scale.snapped(found.batch.ratings)
    right = jnp.abs(snapped - truth.ratings) < 1e-3
    return np.asarray(jnp.all(right | (truth.rated == 0), axis=1))


@pytest.mark.parametrize("interval", [1, 10, 230])
@pytest.mark.parametrize("begin", [0, 20])
def test_two_rounds_give_every_rating(begin, interval):
    seen, truth = clients(observed_steps(begin, interval, 2))
    found = SOLVE(KEY, seen)
    assert exact(found, truth).all()
    assert (found.status == Status.OK).all()
    np.testing.assert_array_equal(found.batch.rated, truth.rated)


def test_three_rounds_and_one_missing():
    seen, truth = clients(observed_steps(0, 10, 3))
    whole = SOLVE(KEY, seen)
    assert exact(whole, truth).all()
    weights = jnp.tile(jnp.array([1.0, 0.0, 1.0]), (len(GROUP.users), 1))
    broken = {"items": seen.update["items"].at[:, 1].set(0)}
    found = SOLVE(KEY, seen.replace(weights=weights, update=broken))
    assert exact(found, truth).all() and (found.status == Status.OK).all()
    # The embeddings, and not the ratings alone.
    for m in (0, 2):
        np.testing.assert_allclose(
            found.batch.user.value[:, m], truth.user[:, m], rtol=0.02, atol=1e-4
        )


def test_float64_is_exact_to_its_rounding():
    with jax.enable_x64(True):
        seen, truth = clients(observed_steps(0, 10, 2))
        found = SOLVE(KEY, seen)
        assert found.batch.ratings.dtype == jnp.float64
        apart = jnp.abs(found.batch.ratings - truth.ratings) * truth.rated
        assert apart.max() < 1e-9


def test_one_round_and_a_repeated_one_are_underdetermined():
    seen, truth = clients(observed_steps(0, 1, 1))
    found = SOLVE(KEY, seen)
    assert (found.status == Status.UNDERDETERMINED).all()
    assert not exact(found, truth).any()
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x], 1), seen)
    assert (SOLVE(KEY, twice).status != Status.OK).all()


def test_too_few_ratings_are_underdetermined():
    seen, _ = clients(observed_steps(0, 10, 2))
    few = jax.tree.map(lambda x: x[:, :, :2], seen)
    assert (SOLVE(KEY, few).status == Status.UNDERDETERMINED).all()
    zero = seen.replace(update={"items": jnp.zeros_like(seen.update["items"])})
    assert (SOLVE(KEY, zero).status == Status.GAVE_UP).all()


def test_another_clients_update_recovers_nothing():
    seen, truth = clients(observed_steps(0, 10, 2))
    wrong = {"items": jnp.roll(seen.update["items"], 1, axis=0)}
    found = SOLVE(KEY, seen.replace(update=wrong))
    assert not exact(found, truth).any()
    assert (found.status != Status.OK).all()
    right = SOLVE(KEY, seen)
    assert right.score.max() < 1e-6 < found.score.min()


def test_the_order_of_items_changes_nothing():
    seen, _ = clients(observed_steps(0, 10, 2))
    order = np.random.default_rng(0).permutation(GROUP.items.shape[1])
    params, update = (
        {"items": x["items"][:, :, order]} for x in (seen.params, seen.update)
    )
    found, mixed = (
        SOLVE(KEY, seen),
        SOLVE(KEY, seen.replace(params=params, update=update)),
    )
    np.testing.assert_allclose(
        mixed.batch.ratings, found.batch.ratings[:, order], atol=1e-4
    )


def test_other_models_are_refused():
    for model in (
        build_recommender("gmf", RatingScale()),
        build_recommender("mf", RatingScale(implicit=True)),
    ):
        with pytest.raises(InputError, match="not matrix factorisation of explicit"):
            factorization(model)
