"""Attacks on CENSOR: planted secrets, NumPy's singular values, and wrong uploads."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv import models
from jaxinv.attacks import Status, closed_form, iterate, restarts
from jaxinv.attacks.censor_matching import censor_matching
from jaxinv.attacks.censor_null_space import censor_labels, censor_null_space
from jaxinv.attacks.censor_uploads import (
    null_direction,
    observe_repeated,
    orthonormal,
    unrelated,
)
from jaxinv.defenses.censor import censor
from jaxinv.errors import InputError
from jaxinv.observation import observe
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec

KEY = jax.random.key(0)
SPEC = Spec((3, 3, 2), 4)
TARGET = models.build("mlp", SPEC, widths=(6,))
PLAIN = gradient(TARGET.loss)
PARAMS = jax.jit(TARGET.init)(KEY)
DEFENDED = censor(PLAIN, TARGET.loss, trials=2)
ENOUGH = 18
"""Uploads: one for each number of an example, so that the last one is a check."""

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@jax.jit
def twenty(key, batch):
    keys = jax.random.split(key, 20)
    return jax.lax.map(lambda k: DEFENDED(k, PARAMS, batch), keys)


def uploading(count):
    """`(key, batch) -> uploads`, one program whatever their number."""

    def upload(key, batch):
        keys = jax.random.split(key, -(-count // 20))
        drawn = [twenty(k, batch) for k in keys]
        return jax.tree.map(lambda *u: jnp.concatenate(u)[:count], *drawn)

    return upload


def secret(num, seed=0):
    keys = jax.random.split(jax.random.key(seed), 2)
    inputs = jax.random.uniform(keys[0], (num, *SPEC.shape))
    return Batch(inputs, jnp.sort(jax.random.randint(keys[1], (num,), 0, 4)))


def seen(updates, num, labels=None):
    return observe_repeated(PARAMS, updates, num_examples=num, spec=SPEC, labels=labels)


@functools.cache
def attacking(**options):
    return jax.jit(iterate(closed_form(censor_null_space(TARGET, **options))))


labelling = jax.jit(censor_labels(TARGET))
true_gradient = jax.jit(lambda batch: PLAIN(KEY, PARAMS, batch))


@pytest.mark.parametrize("count", [7, 8, 20])
def test_uploads_determine_a_tensor_up_to_its_sign(count):
    rng = np.random.default_rng(count)
    true = rng.normal(size=8)
    true /= np.linalg.norm(true)
    drawn = rng.normal(size=(count, 8))
    drawn -= np.outer(drawn @ true, true)
    found = jax.jit(null_direction)(jnp.asarray(drawn, jnp.float32))
    assert abs(np.float64(found.vector) @ true) == pytest.approx(1, abs=1e-6)
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    values = np.linalg.svd(unit, compute_uv=False)
    assert float(found.gap) == pytest.approx(values[6] / values[0], rel=1e-3)
    assert float(found.leftover) < 1e-5


def test_uploads_at_a_right_angle_to_nothing_leave_something_over():
    drawn = jax.random.normal(KEY, (20, 8))
    assert jax.jit(null_direction)(drawn).leftover > 0.1


def test_the_sketch_has_the_squared_sine_as_its_mean():
    """Against the angle in NumPy: the mean of many uploads, and from enough exactly."""
    batch, other = secret(1), secret(1, seed=1)
    uploads = uploading(400)(KEY, batch)
    true, guess = (jax.tree.leaves(true_gradient(b)) for b in (batch, other))
    cosines = [
        np.sum(np.float64(a) * np.float64(b))
        / np.linalg.norm(np.float64(a))
        / np.linalg.norm(np.float64(b))
        for a, b in zip(true, guess, strict=True)
    ]
    logs = [
        np.log(np.linalg.norm(np.float64(b)) / np.linalg.norm(np.float64(a)))
        for a, b in zip(true, guess, strict=True)
    ]
    expected = np.mean(1 - np.square(cosines)), np.mean(np.square(logs))
    many = seen(uploads, 1)
    distance = jax.jit(unrelated)
    sketched = distance(true_gradient(other), uploads)
    exact = distance(true_gradient(other), jax.jit(orthonormal)(many).update)
    assert float(sketched[0]) == pytest.approx(expected[0], rel=0.1)
    assert float(exact[0]) == pytest.approx(expected[0], rel=1e-4)
    for found in (sketched, exact):
        assert float(found[1]) == pytest.approx(expected[1], rel=1e-3)
    nothing = distance(true_gradient(batch), uploads)
    assert float(nothing[0]) < 1e-9 and float(nothing[1]) < 1e-9
    # Up to a sign that is all that they say.
    turned = jax.tree.map(jnp.negative, true_gradient(batch))
    assert float(distance(turned, uploads)[0]) < 1e-9


@pytest.mark.parametrize("count", [5, 20])
def test_orthonormal_uploads_say_the_same(count):
    batch = secret(1)
    uploads = uploading(count)(KEY, batch)
    made = jax.jit(orthonormal)(seen(uploads, 1)).update
    true = true_gradient(batch)
    for new, old, leaf in zip(
        *map(jax.tree.leaves, (made, uploads, true)), strict=True
    ):
        rows, before = (np.float64(u).reshape(count, -1) for u in (new, old))
        size = np.linalg.norm(leaf)
        rank = min(count, leaf.size - 1)
        there = np.linalg.norm(rows, axis=1) > 0
        assert there.sum() == rank
        gram = rows[there] @ rows[there].T / size**2
        np.testing.assert_allclose(gram, np.eye(rank), atol=1e-4)
        assert np.abs(rows @ np.float64(leaf).ravel()).max() < 1e-4 * size**2
        # What was sent lies in their span.
        left = before - before @ rows[there].T @ rows[there] / size**2
        assert np.abs(left).max() < 1e-4 * size


@pytest.mark.parametrize("num", [1, 5])
def test_the_output_bias_gives_the_labels_away(num):
    read = [
        labelling(KEY, seen(uploading(4)(jax.random.key(seed), batch), num))
        for seed, batch in ((s, secret(num, seed=s)) for s in range(8))
    ]
    true = [secret(num, seed=s).labels for s in range(8)]
    np.testing.assert_array_equal(read, true)


def test_another_batch_and_noise_do_not_give_the_labels():
    batches = [secret(5, seed=s) for s in range(8)]
    true = np.stack([b.labels for b in batches])
    wrong = []
    for seed, batch in enumerate(batches):
        update = uploading(4)(jax.random.key(seed), batch)
        keys = iter(jax.random.split(jax.random.key(seed), 8))
        noise = jax.tree.map(
            lambda leaf, k=keys: jax.random.normal(next(k), leaf.shape), update
        )
        wrong.append(labelling(KEY, seen(noise, 5)))
    assert np.mean(np.all(np.asarray(wrong) == true, axis=1)) < 0.5
    others = np.roll(true, 1, axis=0)
    assert np.mean(np.all(others == true, axis=1)) < 0.5


def test_few_uploads_give_the_label_of_one_example_more_often_than_chance():
    hits = [
        int(labelling(KEY, seen(uploading(1)(jax.random.key(s), b), 1))[0])
        == int(b.labels[0])
        for s, b in ((s, secret(1, seed=s)) for s in range(24))
    ]
    # One in four by chance; 12 of 24 or more then happens once in 180 times.
    assert np.mean(hits) >= 0.5


@pytest.mark.parametrize("count", [ENOUGH - 1, ENOUGH])
def test_enough_uploads_give_the_example_away(count):
    for seed in range(3):
        batch = secret(1, seed=seed)
        found = attacking()(KEY, seen(uploading(count)(KEY, batch), 1))
        assert int(found.status) == Status.OK
        np.testing.assert_allclose(found.batch.inputs, batch.inputs, atol=2e-3)
        np.testing.assert_array_equal(found.batch.labels, batch.labels)
        assert float(found.score) < 1e-4
        assert float(found.stats["label_gap"]) > 0.01


def test_one_upload_less_gives_up():
    batch = secret(1)
    found = attacking()(KEY, seen(uploading(ENOUGH - 2)(KEY, batch), 1))
    assert int(found.status) == Status.GAVE_UP
    assert not np.any(found.batch.inputs)
    assert float(found.stats["input_gap"]) == 0
    np.testing.assert_array_equal(found.batch.labels, batch.labels)


def test_uploads_of_two_batches_give_up():
    one, two = (uploading(ENOUGH)(KEY, secret(1, seed=s)) for s in (0, 1))
    mixed = jax.tree.map(lambda a, b: jnp.concatenate([a[:9], b[9:]]), one, two)
    found = attacking()(KEY, seen(mixed, 1))
    assert int(found.status) == Status.GAVE_UP
    assert float(found.score) > 0.1


def test_without_uploads_enough_for_labels_it_gives_up_on_everything():
    found = attacking()(KEY, seen(uploading(1)(KEY, secret(5)), 5))
    assert int(found.status) == Status.GAVE_UP
    assert float(found.stats["label_gap"]) == 0
    assert np.isfinite(found.score)


def test_a_largest_layer_is_left_alone():
    found = attacking(largest=17)(KEY, seen(uploading(ENOUGH)(KEY, secret(1)), 1))
    assert int(found.status) == Status.GAVE_UP


@functools.cache
def matching(**options):
    attack = censor_matching(TARGET, num_steps=300, tv=0.0, signed=None, **options)
    run = iterate(restarts(attack, 16, batch_size=16), num_records=1)
    return jax.jit(lambda key, observation: run(key, orthonormal(observation)))


@pytest.mark.parametrize("labels", ["granted", "read"])
def test_matching_finds_what_the_uploads_determine(labels):
    """From 14 uploads: fewer than the closed form wants."""
    batch = secret(1)
    granted = batch.labels if labels == "granted" else None
    found = matching()(KEY, seen(uploading(14)(KEY, batch), 1, granted))
    assert int(found.status) == Status.OK
    np.testing.assert_array_equal(found.batch.labels, batch.labels)
    wrong = matching()(KEY, seen(uploading(14)(KEY, secret(1, seed=1)), 1, granted))

    def error(guess):
        return float(jnp.mean((guess.batch.inputs - batch.inputs) ** 2))

    assert error(found) < 0.01 < 0.03 < error(wrong)


def test_the_norms_alone_do_not_find_it():
    batch = secret(1)
    uploads = uploading(14)(KEY, batch)
    found = matching(right_angles=0.0)(KEY, seen(uploads, 1, batch.labels))
    assert float(found.score) < 1e-3
    assert float(jnp.mean((found.batch.inputs - batch.inputs) ** 2)) > 0.02


def test_bad_arguments_are_named():
    for options, words in (
        ({"largest": 0}, "largest is 0; expected a positive integer"),
        ({"tolerance": 1.0}, "tolerance is 1.0; expected a number above 0 and below 1"),
    ):
        with pytest.raises(InputError, match=words):
            censor_null_space(TARGET, **options)  # pyright: ignore
    for options, words in (
        ({"schedule": "slow"}, "schedule is 'slow'; expected one of step, cosine"),
        ({"norms": -1.0}, "norms is -1.0; expected a number 0 or more"),
        ({"right_angles": -1}, "right_angles is -1; expected a number 0 or more"),
    ):
        with pytest.raises(InputError, match=words):
            censor_matching(TARGET, **options)  # pyright: ignore


def test_what_is_no_pile_of_gradients_is_refused():
    plain = true_gradient(secret(1))
    one = {"num_examples": 1, "spec": SPEC}
    stacked = jax.tree.map(lambda leaf: leaf[None], plain)
    ragged = {**stacked, "linear1": jax.tree.map(lambda u: u[:0], stacked["linear1"])}
    for updates in (ragged, jax.tree.map(lambda u: u[:0], stacked)):
        with pytest.raises(InputError, match="with one T of 1 or more"):
            observe_repeated(PARAMS, updates, **one)
    spoiled = jax.tree.map(lambda u: jnp.concatenate([u, u * jnp.nan]), stacked)
    with pytest.raises(InputError, match="upload 1: "):
        observe_repeated(PARAMS, spoiled, **one)
    delta = observe(PARAMS, plain, sent="delta", **one)
    shown = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), plain)
    hidden = observe(PARAMS, plain, visible=shown, **one)
    for refused, words in (
        (delta, "the client sent a delta; censor_null_space expected gradients"),
        (hidden, "visible hides a part of the update and censor_null_space reads all"),
    ):
        with pytest.raises(InputError, match=words):
            censor_null_space(TARGET)(KEY, refused)
    with pytest.raises(InputError, match="2 uploads of 5 examples"):
        jax.eval_shape(labelling, KEY, seen(uploading(2)(KEY, secret(5)), 5))
