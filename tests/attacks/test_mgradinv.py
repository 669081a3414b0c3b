"""MGradInv by Levenberg and Marquardt: planted ratings, baselines, wrong updates."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.attacks.base import Status, iterate, restarts
from jaxinv.attacks.levenberg_marquardt import lm_step, plain, sum_of_squares
from jaxinv.attacks.mgradinv import mgradinv
from jaxinv.attacks.rating_fit import Outer, Seen, match, match_lengths, match_slope
from jaxinv.data.ratings import generated_ratings, grouped
from jaxinv.errors import InputError, KnowledgeError
from jaxinv.federation import observed_alone, observed_steps
from jaxinv.local_training import LocalTraining
from jaxinv.models.recommenders import RatingScale, build_recommender
from jaxinv.observation import Knowledge

KEY = jax.random.key(0)
RATINGS = generated_ratings()
GROUP = grouped(RATINGS, range(8), scale=5, growth=100)[0]
# Not of the key that the clients drew from.
KEYS = jax.random.split(jax.random.key(7), len(GROUP.users))


pytestmark = pytest.mark.usefixtures("compiled_quickly")


def clients(model, rounds, interval=10):
    steps = observed_steps(0, interval, rounds)
    return observed_alone(KEY, model, GROUP, RATINGS.num_items, steps, 0.1)


def compiled(attack, num=4):
    fn = iterate(restarts(attack, num, batch_size=num))
    return jax.jit(lambda o: jax.lax.map(lambda a: fn(*a), (KEYS, o)))


def run(attack, seen, num=4):
    return compiled(attack, num)(seen)


def exact(model, found, truth):
    snapped = model.scale.snapped(found.batch.ratings)
    right = jnp.abs(snapped - truth.ratings) < 1e-3
    return np.asarray(jnp.all(right | (truth.rated == 0), axis=1))


@pytest.fixture(scope="module")
def mf():
    return build_recommender("mf", RatingScale(), dim=4)


def test_two_rounds_determine_what_one_does_not(mf):
    attacked = compiled(mgradinv(mf))
    for interval in (1, 100):
        seen, truth = clients(mf, 2, interval)
        found = attacked(seen)
        assert exact(mf, found, truth).all()
        assert found.score.max() < 1e-9 and (found.status == Status.OK).all()
    one, truth = clients(mf, 1)
    found = run(mgradinv(mf), one)
    # The gradient matches, and the ratings are wrong: under-determined.
    matched = np.asarray(found.score) < 1e-9
    assert matched.sum() >= 4 and (found.status == Status.UNDERDETERMINED).all()
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
    found = run(mgradinv(mf), seen.replace(update=wrong))
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
    found = run(mgradinv(model, start="random"), seen)
    assert exact(model, found, truth).sum() >= 3


def test_the_embedding_of_a_network_is_read_from_one_gradient():
    # Beside a bias: whatever the activation, and however it jumps.
    model = build_recommender("ncf", RatingScale(), dim=4, widths=(16, 8))
    seen, truth = clients(model, 1)
    attacked = compiled(mgradinv(model, num_steps=1, embedding="read"), num=1)
    found = attacked(seen)
    assert exact(model, found, truth).all() and (found.status == Status.OK).all()
    np.testing.assert_allclose(found.batch.user.value, truth.user, atol=1e-5)
    wrong = seen.replace(update=jax.tree.map(lambda x: jnp.roll(x, 1, 0), seen.update))
    missed = attacked(wrong)
    assert not exact(model, missed, truth).any() and missed.score.min() > 1e-3


def test_generalised_factorisation_needs_two_rounds_as_well():
    model = build_recommender("gmf", RatingScale(), dim=4)
    seen, truth = clients(model, 2)
    found = run(mgradinv(model), seen)
    assert exact(model, found, truth).all() and (found.status == Status.OK).all()
    one, truth = clients(model, 1)
    found = run(mgradinv(model), one)
    assert (found.status == Status.UNDERDETERMINED).all()


@pytest.mark.parametrize("coupling", ["tied", "soft"])
def test_embeddings_follow_the_clients_declared_steps(mf, coupling):
    seen, truth = clients(mf, 3, interval=1)
    attack = mgradinv(mf, coupling=coupling)
    with pytest.raises(KnowledgeError, match="local_training is needed"):
        run(attack, seen)
    told = Knowledge(local_training=LocalTraining(0.1, local_steps=1))
    found = run(attack, seen.replace(known=told))
    assert exact(mf, found, truth).all()
    np.testing.assert_allclose(found.batch.user.value, truth.user, atol=0.01)
    # With steps that the client never took, the rounds do not fit each other.
    lie = Knowledge(local_training=LocalTraining(3.0, local_steps=1))
    if coupling == "tied":
        assert run(attack, seen.replace(known=lie)).score.min() > 1e-6
    adam = LocalTraining(0.1, local_steps=1, optimizer="adam")
    with pytest.raises(InputError, match="optimizer 'adam'"):
        run(attack, seen.replace(known=Knowledge(local_training=adam)))


def test_a_single_rating_is_underdetermined(mf):
    seen, _ = clients(mf, 2)
    one = jax.tree.map(lambda x: x[:, :, :1], (seen.params, seen.update))
    found = run(mgradinv(mf), seen.replace(params=one[0], update=one[1]))
    assert (found.status == Status.UNDERDETERMINED).all()


def test_items_of_their_own_in_each_round(mf):
    seen, truth = clients(mf, 2)
    # In round 1 the first item is not trained on: another count, no word on its rating.
    count = np.asarray(truth.rated.sum(1))[:, None, None]
    rows = seen.update["items"]
    kept = rows.at[:, 1, 0].set(0).at[:, 1].multiply(count / (count - 1))
    own = seen.replace(update={"items": kept.at[:, 1, 0].set(0)})
    assert exact(mf, run(mgradinv(mf, items="own"), own), truth).all()
    assert not exact(mf, run(mgradinv(mf, items="same"), own), truth).any()


def test_the_expected_error_is_about_the_true_one(mf):
    seen, truth = clients(mf, 2)
    attack = mgradinv(mf)
    fn = iterate(restarts(attack, 4, batch_size=4))

    @jax.jit
    def through(noise):
        noisy = jax.vmap(lambda key, o: _noisy(key, o, noise))(KEYS, seen)
        return jax.lax.map(lambda a: fn(*a), (KEYS, noisy))

    for noise in (1e-4, 1e-3):
        found = through(noise)
        apart = jnp.abs(found.batch.ratings - truth.ratings) * truth.rated
        error = jnp.sqrt((apart**2).sum(1) / truth.rated.sum(1))
        ratio = np.asarray(error / found.stats["rating_error"])
        assert 0.1 < np.median(ratio) < 3 and ratio.max() < 10
    assert (through(1.0).status == Status.UNDERDETERMINED).mean() >= 0.5


def _noisy(key, seen, share):
    rows = seen.update["items"]
    level = share * jnp.sqrt(jnp.mean(rows**2, (1, 2), keepdims=True))
    noise = level * jax.random.normal(key, rows.shape) * (rows != 0)
    return seen.replace(update={"items": rows + noise})


def test_factors_stand_for_the_residuals_they_span(mf):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        shapes = {"along": (2, 5), "row": (2, 3)}
        at, change, other = (
            {"items": Outer(*(rng.normal(size=s) for s in shapes.values()))}
            for _ in range(3)
        )
        update = {"items": rng.normal(size=(2, 5, 3))}
        rounds = Seen(None, update, jnp.ones(2), jnp.ones((2, 5)))
        matched = jnp.array([0.3, 0.7])

        def whole(update):
            outer = update["items"]
            return outer.along[..., None] * outer.row[:, None]

        grown = [jax.jvp(whole, (at,), (d,))[1] for d in (change, other)]
        short = match_lengths(at)
        inner = sum(
            jnp.vdot(a, b)
            for a, b in zip(
                *(jax.tree.leaves(short(d)) for d in (change, other)), strict=True
            )
        )
        np.testing.assert_allclose(inner, jnp.vdot(*grown), rtol=1e-12)
        slope = jax.grad(lambda u: match(rounds, matched, u) / 2)(at)
        expected = match_slope(rounds, matched, at)
        jax.tree.map(np.testing.assert_allclose, slope, expected)


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
        ({"pull": -1}, "pull is -1"),
        ({"start": "cold"}, "start is 'cold'"),
        ({"coupling": "loose"}, "coupling is 'loose'"),
        ({"items": "few"}, "items is 'few'"),
        ({"embedding": "read"}, "leaves the embedding's norm open"),
    ]:
        with pytest.raises(InputError, match=message):
            mgradinv(mf, **options)
