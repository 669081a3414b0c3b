"""What the server, and an attacker, make of a client's delta."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fedavg_clients import (
    FLAT,
    KEY,
    SPEC,
    WEIGHTS,
    close,
    distance,
    mlp_observation,
    numbers,
    quadratic,
    quick,
)

from jaxinv import models
from jaxinv.attacks import build
from jaxinv.attacks.base import iterate, restarts
from jaxinv.attacks.cosine_lbfgs import cosine_lbfgs
from jaxinv.attacks.labels import LABEL_RULES, label_rule
from jaxinv.attacks.linear_layer import linear_layer
from jaxinv.client import simulate
from jaxinv.errors import InputError, KnowledgeError
from jaxinv.fedavg import fedavg
from jaxinv.local_training import LocalTraining
from jaxinv.observation import exact_gradient, mean_gradient, observe
from jaxinv.target import Batch, Spec, cross_entropy, from_function


def test_new_weights_become_a_delta_once():
    target, delta = mlp_observation()
    params, update = delta.round(0)
    after = jax.tree.map(lambda p, u: np.float64(p) + np.float64(u), params, update)
    found = observe(params, after, num_examples=3, spec=SPEC, sent="weights")
    assert found.sent == delta.sent == "delta"
    close(found.round(0)[1], update, 1e-6)
    batch, release = numbers(3), fedavg(target.loss, 1e-3)
    rounded = simulate(KEY, target, params, batch, release=release, sent="weights")
    close(rounded.round(0)[1], update, 1e-3)
    # Float32 weights hold less of a small delta than the release computes.
    assert distance(rounded.round(0)[1], update) > 1e-8


def test_a_gradient_is_what_is_sent_unless_it_is_said():
    target = models.build("mlp", SPEC, widths=(16,))
    seen = simulate(KEY, target, target.init(KEY), numbers(2))
    assert seen.sent == "gradient" and seen.known.local_training is None
    assert mean_gradient(seen, who="this test") is not None


def test_what_was_sent_and_granted_is_static():
    _, seen = mlp_observation(grant=("local_training",))
    assert seen.known.granted() == ("local_training",)
    seen_too = mlp_observation(grant=("local_training",))[1]
    assert jax.tree.structure(seen) == jax.tree.structure(seen_too)
    assert hash(jax.tree.structure(seen)) == hash(jax.tree.structure(seen_too))
    told = jax.tree.map(lambda x: x, seen).known.local_training
    assert told == LocalTraining(1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_the_mean_gradient_is_read_from_a_delta(optimizer):
    """The better the shorter the training was."""
    batch = Batch(numbers(4, spec=FLAT).inputs, None)
    expected = jax.grad(quadratic)(WEIGHTS, batch)

    def error(rate):
        release = fedavg(quadratic, rate, local_steps=4, optimizer=optimizer)
        delta = release(KEY, WEIGHTS, batch)
        told = {"sent": "delta", "local_training": release.local}
        seen = observe(WEIGHTS, delta, num_examples=4, spec=FLAT, **told)
        return distance(mean_gradient(seen, who="this test"), expected)

    assert 5 * error(1e-3) < error(1e-2) < 0.02


def test_a_delta_without_its_training_is_refused_in_one_line():
    _, seen = mlp_observation(grant=("labels",))
    message = r"^local_training is needed and not granted \(granted: labels\)[^\n]*$"
    with pytest.raises(KnowledgeError, match=message):
        mean_gradient(seen, who="the rule")
    _, seen = mlp_observation(optimizer="adam")
    with pytest.raises(InputError, match="optimizer is 'adam'; expected 'sgd' or"):
        mean_gradient(seen, who="the rule")


@pytest.mark.parametrize("rule", LABEL_RULES)
def test_rules_read_a_delta_as_they_read_a_gradient(rule):
    num = 1 if rule == "idlg" else 4
    target, seen = mlp_observation(num, local_steps=4, batch_size=max(num // 2, 1))
    params, _ = seen.round(0)
    labels = jax.jit(label_rule(rule, target))
    plain = simulate(KEY, target, params, numbers(num), grant=())
    np.testing.assert_array_equal(labels(KEY, seen), labels(KEY, plain))
    # Read as it came, the delta says something else: its sign is the other one, which
    # iDLG, with its products of rows, does not see.
    raw = seen.replace(sent="gradient")
    assert (labels(KEY, raw) != labels(KEY, plain)).any() == (rule != "idlg")


def test_labels_are_recovered_from_a_delta():
    target, seen = mlp_observation(4, local_steps=4, batch_size=2)
    found = label_rule("analytic", target)(KEY, seen)
    np.testing.assert_array_equal(found, np.sort(numbers(4).labels))


def test_closed_forms_take_one_step_and_refuse_more():
    target, seen = mlp_observation(1)
    found = jax.jit(linear_layer(target))(KEY, seen)
    close(found.batch.inputs, numbers(1).inputs, 1e-3)
    np.testing.assert_array_equal(found.batch.labels, numbers(1).labels)
    assert found.score < 1e-6
    for options, steps in (
        ({"local_steps": 2}, "2 steps of 3"),
        ({"batch_size": 1, "local_steps": 1}, "1 steps of 1"),
    ):
        _, seen = mlp_observation(3, **options)
        with pytest.raises(InputError, match=f"^local_training has {steps} examples;"):
            exact_gradient(seen, who="rgap")


def smooth_target():
    def loss(params, batch):
        hidden = jnp.tanh(batch.inputs.reshape(len(batch.inputs), -1) @ params["a"])
        return cross_entropy(hidden @ params["b"] + params["c"], batch.labels)

    spec = Spec((4, 4, 1), 4)
    size = int(np.prod(spec.shape))

    def init(key):
        a, b, c = jax.random.split(key, 3)
        return {
            "a": 0.3 * jax.random.normal(a, (size, 32)),
            "b": 0.3 * jax.random.normal(b, (32, 4)),
            "c": 0.1 * jax.random.normal(c, (4,)),
        }

    return from_function(loss, spec, init=init)


@pytest.mark.parametrize(
    ("name", "options"), [("cosine_lbfgs", {"tv": 0.0}), ("dlg", {})]
)
def test_an_attack_finds_its_own_client_and_not_another(name, options):
    target = smooth_target()
    params = target.init(KEY)
    release = fedavg(target.loss, 1e-4, local_steps=4, batch_size=1)
    mine, other = (numbers(2, seed, target.spec) for seed in (1, 2))
    other = other._replace(labels=mine.labels)
    attack = build(name, target, release=release, num_steps=150, **options)
    # One start of DLG in three ends elsewhere, and rounding decides which.
    run = jax.jit(iterate(restarts(attack, 16, batch_size=16)))

    def error(batch):
        seen = simulate(KEY, target, params, batch, release=release)
        found = run(jax.random.key(3), seen)
        return float(jnp.mean((found.batch.inputs - mine.inputs) ** 2))

    own = error(mine)
    assert own < 1e-6
    assert error(other) > 1000 * own and error(other) > 0.05


def test_each_start_puts_recovered_labels_in_an_order_of_its_own():
    """Which labels met in which local step nobody told."""
    options = {"local_steps": 4, "batch_size": 2, "grant": ("local_training",)}
    target, seen = mlp_observation(4, **options)
    starts = jax.random.split(KEY, 20)
    init = quick(jax.vmap(cosine_lbfgs(target).init, (0, None)))
    given = init(starts, seen).given
    rule = label_rule("bias_corrected", target)(KEY, seen)
    np.testing.assert_array_equal(np.sort(given, 1), np.tile(np.sort(rule), (20, 1)))
    assert len(np.unique(given, axis=0)) > 3
