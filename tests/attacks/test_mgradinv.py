"""MGradInv by Levenberg and Marquardt: planted ratings, baselines, wrong updates."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.attacks.base import Status, iterate, restarts
from jaxinv.attacks.levenberg_marquardt import lm_step, plain, sum_of_squares
from jaxinv.attacks.mgradinv import mgradinv
from jaxinv.data.ratings import generated_ratings, grouped
from jaxinv.errors import InputError, KnowledgeError
from jaxinv.federation import observed_alone, observed_steps
from jaxinv.models.recommenders import RatingScale, build_recommender
from jaxinv.observation import Knowledge

KEY = jax.random.key(0)
RATINGS = generated_ratings()
GROUP = grouped(RATINGS, range(8), scale=5, growth=100)[0]
# Not of the key that the clients drew from.
KEYS = jax.random.split(jax.random.key(7), len(GROUP.users))


def clients(model, rounds, interval=10):
    steps = observed_steps(0, interval, rounds)
    return observed_alone(KEY, model, GROUP, RATINGS.num_items, steps, 0.1)


def run(attack, seen, num=4):
    fn = iterate(restarts(attack, num, batch_size=num))
    return jax.jit(lambda o: jax.lax.map(lambda a: fn(*a), (KEYS, o)))(seen)


def exact(model, found, truth):
    snapped = model.scale.snapped(found.batch.ratings)
    right = jnp.abs(snapped - truth.ratings) < 1e-3
    return np.asarray(jnp.all(right | (truth.rated == 0), axis=1))


@pytest.fixture(scope="module")
def mf():
    return build_recommender("mf", RatingScale(), dim=4)


def test_two_rounds_determine_what_one_does_not(mf):
    for interval in (1, 100):
        seen, truth = clients(mf, 2, interval)
        found = run(mgradinv(mf, num_steps=45), seen)
        assert exact(mf, found, truth).all()
        assert found.score.max() < 1e-9 and (found.status == Status.OK).all()
    one, truth = clients(mf, 1)
    found = run(mgradinv(mf, num_steps=30), one)
    # The gradient matches, and the ratings are wrong: under-determined.
    matched = np.asarray(found.score) < 1e-9
    assert matched.sum() >= 4
    assert exact(mf, found, truth)[matched].mean() < 0.5


def test_the_first_round_may_be_missing(mf):
    seen, truth = clients(mf, 3)
    broken = {"items": seen.update["items"].at[:, 0].set(0)}
    weights = jnp.tile(jnp.array([0.0, 1.0, 1.0]), (len(KEYS), 1))
    found = run(
        mgradinv(mf, num_steps=45), seen.replace(update=broken, weights=weights)
    )
    assert exact(mf, found, truth).all()


def test_the_wrong_clients_update_recovers_nothing(mf):
    seen, truth = clients(mf, 2)
    wrong = {"items": jnp.roll(seen.update["items"], 1, axis=0)}
    found = run(mgradinv(mf, num_steps=30), seen.replace(update=wrong))
    assert not exact(mf, found, truth).any()
    assert found.score.min() > 1e-4


def test_baselines_stand_below_and_above(mf):
    seen, truth = clients(mf, 1)
    drawn = run(mgradinv(mf, num_steps=1, embedding="random"), seen)
    assert not exact(mf, drawn, truth).any() and drawn.score.min() > 0.01
    granted = seen.replace(known=Knowledge(users=truth.user))
    best = run(mgradinv(mf, num_steps=1, embedding="known"), granted, num=1)
    assert exact(mf, best, truth).all()
    with pytest.raises(KnowledgeError, match="users is needed"):
        run(mgradinv(mf, embedding="known"), seen)


def test_a_network_of_layers():
    model = build_recommender("ncf", RatingScale(), dim=4, widths=(16, 8))
    seen, truth = clients(model, 1)
    found = run(mgradinv(model, num_steps=30), seen)
    assert exact(model, found, truth).sum() >= 3


def test_interactions():
    model = build_recommender("mf", RatingScale(implicit=True), dim=4)
    # One in five, as if four negatives were drawn for each.
    liked = np.arange(GROUP.items.size).reshape(GROUP.items.shape) % 5 == 0
    likes = GROUP._replace(ratings=liked * GROUP.rated)
    steps = observed_steps(0, 10, 2)
    seen, truth = observed_alone(KEY, model, likes, RATINGS.num_items, steps, 0.1)
    found = run(mgradinv(model, num_steps=45), seen)
    assert exact(model, found, truth).mean() > 0.8


def test_steps_fall_to_the_least_squares_solution():
    rng = np.random.default_rng(0)
    matrix, right = rng.normal(size=(20, 5)), rng.normal(size=20)
    with jax.enable_x64(True):
        point, damping = jnp.zeros(5), jnp.asarray(1.0)
        values = []
        for _ in range(12):
            point, damping, value = lm_step(
                plain(lambda x: {"a": matrix @ x - right}), point, damping
            )
            values.append(float(value))
        expected = np.linalg.lstsq(matrix, right, rcond=None)[0]
        np.testing.assert_allclose(point, expected, rtol=1e-6)
        np.testing.assert_allclose(
            values[-1], sum_of_squares(matrix @ expected - right)
        )
        assert all(b <= a for a, b in itertools.pairwise(values))


def test_a_step_that_is_worse_or_not_finite_is_not_taken():
    point = jnp.array([1.0])
    for cliff in (
        lambda x: jnp.where(x < 1, jnp.nan, x),
        lambda x: jnp.sqrt(x - 1) + x,
    ):
        moved, damping, _ = lm_step(plain(cliff), point, jnp.asarray(1.0))
        assert moved == point and damping == 4


def test_bad_options_are_named(mf):
    for options, message in [
        ({"embedding": "guess"}, "embedding is 'guess'"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"products": 0}, "products is 0"),
        ({"spread": -1}, "spread is -1"),
    ]:
        with pytest.raises(InputError, match=message):
            mgradinv(mf, **options)
