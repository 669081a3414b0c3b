"""The whole optimisation on a small model: budget, compiles, direction, arguments."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv import matching, priors, space
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.defenses.noise import gaussian_noise
from jaxinv.defenses.protection import protect
from jaxinv.errors import InputError
from jaxinv.hardening import (
    Constraint,
    PrivacySlope,
    from_truth,
    harden,
    hardening,
    inverse_variance,
    mask_budget,
    noise_budget,
    positive,
    through_steps,
    unconstrained,
    visible,
)
from jaxinv.objective import objective
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec, from_function

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SPEC = Spec((3, 3, 1), 3)
TRACES = []


def loss(params, batch):
    """The gradient by a is the input itself, and that by b says nothing of it."""
    x = batch.inputs.reshape(len(batch.inputs), -1)
    return jnp.sum(x @ params["a"]) + jnp.sum(params["b"])


TARGET = from_function(loss, SPEC)
RELEASE = gradient(loss, rewritten=False)
PARAMS = {"a": jnp.ones(9), "b": jnp.ones(9)}


def clients(key):
    TRACES.append(key)
    inputs = jax.random.uniform(key, (1, 3, 3, 1))
    return PARAMS, Batch(inputs, jnp.zeros(1, int))


def noisy(std):
    return protect(RELEASE, gaussian_noise(std))


def matched(weights, batch):
    where = from_truth(space.pixels(SPEC, labels="known", box=False), batch)
    return gradient_matching(
        objective(RELEASE, matching.squared(weights), priors.l2_norm),
        where,
        optax.sgd(0.2),
        12,
    )


def linear_privacy(key, parameters, params, batch):
    """A privacy of known slope: 3 a + b."""
    del key, params, batch
    value = 3 * parameters["a"] + parameters["b"]
    slope = {"a": jnp.asarray(3.0), "b": jnp.asarray(1.0)}
    return PrivacySlope(value, slope, {})


def test_the_optimum_under_a_budget_is_the_one_of_lagrange():
    """Maximise 3 a + b under a^2 + 4 b^2 = 1: a : b is 3 : 1/4."""
    constraint = noise_budget({"a": 1.0, "b": 4.0}, 1.0, floor=0.0)
    run = jax.jit(
        lambda key, theta: harden(
            key,
            theta,
            linear_privacy,
            clients,
            num_steps=300,
            num_clients=2,
            constraint=constraint,
            optimizer=optax.adam(0.1),
        )
    )
    before = len(TRACES)
    found = run(jax.random.key(0), constraint.invert({"a": 0.5, "b": 0.5}))
    traced = len(TRACES) - before
    run(jax.random.key(1), found.theta)
    assert len(TRACES) - before == traced <= 3  # not one a step, none for a new key
    a, b = float(found.parameters["a"]), float(found.parameters["b"])
    assert a**2 + 4 * b**2 == pytest.approx(1, rel=1e-5)
    assert a / b == pytest.approx(12, rel=1e-2)
    privacy = np.asarray(found.history["privacy"])
    assert privacy[-1] > privacy[0]
    assert privacy[-1] == pytest.approx(np.sqrt(9 + 1 / 4), rel=1e-4)


def test_without_a_budget_the_weight_of_utility_sets_the_noise():
    def utility(key, parameters, params, batch):
        return 0.5 * (parameters["a"] ** 2 + parameters["b"] ** 2)

    found = jax.jit(
        lambda key: harden(
            key,
            positive.invert({"a": jnp.asarray(0.5), "b": jnp.asarray(0.5)}),
            linear_privacy,
            clients,
            num_steps=300,
            constraint=positive,
            optimizer=optax.adam(0.1),
            utility=utility,
            weight=2.0,
        )
    )(jax.random.key(0))
    assert float(found.parameters["a"]) == pytest.approx(1.5, rel=1e-2)
    assert float(found.parameters["b"]) == pytest.approx(0.5, rel=1e-2)
    history = found.history
    np.testing.assert_allclose(
        history["objective"], 2 * history["utility"] - history["privacy"], rtol=1e-5
    )


def learned(start, privacy, constraint, num_steps):
    options = {"num_clients": 4, "optimizer": optax.adam(0.2)}
    run = partial(harden, num_steps=num_steps, constraint=constraint, **options)
    return jax.jit(lambda key: run(key, start, privacy, clients))(jax.random.key(0))


def test_noise_learned_against_an_attack_hides_more_and_keeps_the_budget():
    """Most of the budget first lies where noise hides nothing."""
    constraint = noise_budget({"a": 9.0, "b": 9.0}, 0.09)
    privacy = through_steps(
        TARGET, noisy, lambda std, batch: matched(matching.equal, batch)
    )
    start = constraint.invert({"a": jnp.asarray(0.01), "b": jnp.asarray(0.0995)})
    found = learned(start, privacy, constraint, num_steps=40)
    std = found.parameters
    assert float(std["a"]) ** 2 + float(std["b"]) ** 2 == pytest.approx(0.01, rel=1e-4)
    history = np.asarray(found.history["privacy"])
    assert history[-10:].mean() > history[:5].mean()
    assert (np.asarray(found.history["finite"]) == 1).all()
    assert float(std["a"]) > 2 * float(std["b"])


def test_a_client_without_a_number_is_left_out():
    def privacy(key, parameters, params, batch):
        bad = jax.random.bernoulli(key)
        found = linear_privacy(key, parameters, params, batch)
        return jax.tree.map(lambda x: jnp.where(bad, jnp.nan, x), found)

    loop = hardening(
        privacy, clients, optimizer=optax.sgd(0.1), num_clients=16, at_once=4
    )
    state, info = jax.jit(loop.step)(loop.init(jax.random.key(0), {"a": 0.0, "b": 0.0}))
    assert 0 < float(info["finite"]) < 1
    assert float(state.theta["a"]) == pytest.approx(0.3)
    assert float(state.theta["b"]) == pytest.approx(0.1)


def test_what_is_hidden_has_no_weight_and_a_mask_can_be_learned():
    """Hiding what holds the input starves the attack, hiding the rest does not."""

    def attack(masks, batch):
        where = from_truth(
            space.pixels(SPEC, labels="known", box=False), batch, spread=0.3
        )
        match = matching.squared(visible(masks))
        return gradient_matching(objective(RELEASE, match), where, optax.sgd(0.1), 10)

    constraint = mask_budget({"a": 1.0, "b": 1.0}, 0.5)
    privacy = through_steps(TARGET, lambda masks: RELEASE, attack)
    start = {"a": jnp.asarray(0.0), "b": jnp.asarray(0.0)}
    found = learned(start, privacy, constraint, num_steps=30)
    masks = {name: float(m) for name, m in found.parameters.items()}
    assert masks["a"] + masks["b"] == pytest.approx(1, rel=1e-4)
    assert masks["a"] > 0.7
    assert [float(w) for w in inverse_variance(0.5)(PARAMS)] == [2.0, 2.0]
    weights = visible({"a": 1.0, "b": 0.25})(PARAMS)
    assert [float(w) for w in weights] == [0.0, 0.75]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_clients": 0}, "num_clients is 0"),
        ({"at_once": 0}, "at_once is 0"),
        ({"weight": -1.0}, "weight is -1.0"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"constraint": lambda x: x}, "expected a Constraint"),
        ({"optimizer": 0.1}, "optimizer is 0.1; expected a GradientTransformation"),
    ],
)
def test_wrong_arguments_are_named(options, words):
    given = {"num_steps": 3, "optimizer": optax.sgd(0.1), **options}
    with pytest.raises(InputError, match=words):
        harden(jax.random.key(0), {"a": 0.0}, linear_privacy, clients, **given)
    assert isinstance(unconstrained, Constraint)
