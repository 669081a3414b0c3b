"""CENSOR against its equation, drawn by a plain loop, and against a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.defenses.censor import censor, replaced
from jaxinv.errors import InputError
from jaxinv.fedavg import fedavg
from jaxinv.release import gradient
from jaxinv.target import Batch, cross_entropy

KEY = jax.random.key(0)
pytestmark = pytest.mark.usefixtures("compiled_quickly")
drawn_again = jax.jit(replaced, static_argnames="unit_projection")


def release():
    """The gradient, compiled."""
    return jax.jit(gradient(loss))


def tried(defended, params, batch):
    """All trials, compiled."""
    return jax.jit(defended.drawn)(KEY, params, batch)


def loss(params, batch):
    hidden = jnp.tanh(batch.inputs @ params["a"]["kernel"] + params["a"]["bias"])
    return cross_entropy(hidden @ params["b"]["kernel"], batch.labels)


def planted(seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {
        "a": {"kernel": jax.random.normal(keys[0], (6, 5)), "bias": jnp.zeros(5)},
        "b": {"kernel": jax.random.normal(keys[1], (5, 3))},
    }
    return params, Batch(jax.random.normal(keys[2], (4, 6)), jnp.array([0, 1, 2, 1]))


def pairs(sent, true):
    return [
        (np.float64(a), np.float64(b))
        for a, b in zip(*map(jax.tree.leaves, (sent, true)), strict=True)
    ]


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1.0, 1e4, 1e30])
def test_every_tensor_is_at_a_right_angle_and_as_long(scale):
    params, batch = planted()
    true = release()(KEY, params, batch)
    true = jax.tree.map(lambda leaf: scale / jnp.linalg.norm(leaf) * leaf, true)
    for sent, leaf in pairs(drawn_again(KEY, true), true):
        size = np.linalg.norm(leaf)
        assert abs(np.sum(sent * leaf)) <= 1e-6 * size**2
        assert np.linalg.norm(sent) == pytest.approx(size, rel=1e-5)


def test_what_has_no_right_angle_is_sent_as_zeros():
    sent = replaced(KEY, {"one": jnp.ones(1), "dead": jnp.zeros((3, 2))})
    assert not np.any(sent["one"]) and not np.any(sent["dead"])


@pytest.mark.parametrize("size", [1e-3, 0.5, 3.0])
def test_the_unit_projection_leaves_what_the_norm_lacks_of_one(size):
    true = jnp.array([0.6, 0.8, 0.0]) * size
    along = true / size
    drawn = jax.random.normal(jax.random.split(KEY, 1)[0], (3,))
    drawn /= jnp.linalg.norm(drawn)
    left = drawn - (drawn @ along) * size * along
    sent = replaced(KEY, [true], unit_projection=True)[0]
    np.testing.assert_allclose(sent, left / jnp.linalg.norm(left) * size, rtol=1e-4)
    # Before the norm is restored, <r, g> (1 - |g|) / |g| is what points along g.
    assert left @ along == pytest.approx(float(drawn @ along) * (1 - size), rel=1e-4)


@pytest.mark.parametrize("at_once", [1, 3])
def test_the_trial_of_lowest_loss_is_sent(at_once):
    params, batch = planted()
    defended = censor(gradient(loss), loss, trials=7, step=0.1, at_once=at_once)
    found = jax.jit(defended.drawn)(KEY, params, batch)
    own, later = jax.random.split(KEY)
    true = release()(own, params, batch)
    after = jax.jit(loss)
    losses, candidates = [], []
    for key in jax.random.split(later, 7):
        candidate = drawn_again(key, true)
        moved = jax.tree.map(lambda w, o: w - 0.1 * o, params, candidate)
        losses.append(float(after(moved, batch)))
        candidates.append(candidate)
    np.testing.assert_allclose(found.criterion, losses, rtol=1e-5)
    assert int(found.chosen) == int(np.argmin(losses))
    for a, b in pairs(found.update, candidates[int(found.chosen)]):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    again = jax.jit(defended)(KEY, params, batch)
    for a, b in pairs(again, found.update):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_the_curvature_orders_trials_as_the_loss_does_in_float64():
    with jax.enable_x64(True):
        params, batch = jax.tree.map(
            lambda leaf: (
                np.asarray(leaf, np.float64) if leaf.dtype == jnp.float32 else leaf
            ),
            planted(),
        )
        found = [
            tried(censor(gradient(loss), loss, trials=9, selection=way), params, batch)
            for way in ("loss", "curvature")
        ]
        order = [np.argsort(trial.criterion).tolist() for trial in found]
    assert order[0] == order[1]


def test_the_original_is_sent_only_where_that_is_asked_for():
    params, batch = planted()
    true = release()(KEY, params, batch)
    # So far along, every trial has a higher loss than the weights received.
    far = {"trials": 3, "step": 1e4}
    kept = censor(gradient(loss), loss, **far, may_send_original=True)
    trials = tried(kept, params, batch)
    assert int(trials.chosen) == -1
    for a, b in pairs(trials.update, true):
        np.testing.assert_array_equal(a, b)
    never = tried(censor(gradient(loss), loss, **far), params, batch).update
    for a, b in pairs(never, true):
        assert abs(np.sum(a * b)) < 1e-5 * np.sum(b * b)


def test_a_delta_is_judged_in_its_own_direction():
    params, batch = planted()
    delta = fedavg(loss, 0.1, local_steps=2)
    trials = tried(censor(delta, loss, trials=4, step=1.0), params, batch)
    moved = jax.tree.map(jnp.add, params, trials.update)
    lowest = float(trials.criterion[trials.chosen])
    assert lowest == pytest.approx(float(loss(moved, batch)), rel=1e-5)


def test_the_quotient_of_a_first_layer_no_longer_gives_the_input():
    params, batch = planted()
    batch = Batch(batch.inputs[:1], batch.labels[:1])
    true = release()(KEY, params, batch)
    sent = tried(censor(gradient(loss), loss, trials=2), params, batch).update

    def read(update):
        row = jnp.argmax(jnp.abs(update["a"]["bias"]))
        return update["a"]["kernel"][:, row] / update["a"]["bias"][row]

    def likeness(update):
        guess, secret = read(update), batch.inputs[0]
        return float(guess @ secret / jnp.linalg.norm(guess) / jnp.linalg.norm(secret))

    assert likeness(true) == pytest.approx(1, abs=1e-5)
    assert abs(likeness(sent)) < 0.9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trials": 0}, "trials is 0; expected a positive integer"),
        ({"step": -1.0}, "step is -1.0; expected a number 0 or more"),
        ({"selection": "best"}, "selection is 'best'; expected one of loss, curvature"),
        (
            {"selection": "curvature", "may_send_original": True},
            "selection is 'curvature'; expected one of loss",
        ),
    ],
)
def test_bad_arguments_are_named(options, words):
    with pytest.raises(InputError, match=words):
        censor(gradient(loss), loss, **options)
