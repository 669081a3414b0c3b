"""The derivative through an attack's steps by finite differences, and its memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv import matching, priors, space
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.attacks.inverting_gradients import inverting_gradients
from jaxinv.defenses.noise import gaussian_noise
from jaxinv.defenses.protection import protect
from jaxinv.errors import InputError
from jaxinv.hardening import inverse_variance, mean_squared, through_steps, unrolled
from jaxinv.hardening.privacy import from_truth, observed
from jaxinv.objective import objective
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec, cross_entropy, from_function

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SPEC = Spec((4, 4, 1), 3)
OPTIMIZERS = {
    "adam": optax.adam(0.1, eps_root=1e-12),
    "momentum": optax.sgd(0.3, momentum=0.8),
}


def loss(params, batch):
    x = batch.inputs.reshape(len(batch.inputs), -1)
    return cross_entropy(jnp.tanh(x @ params["a"]) @ params["b"], batch.labels)


TARGET = from_function(loss, SPEC)
RELEASE = gradient(loss, rewritten=False)  # there is nothing to rewrite


def params(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 2)
    shapes = {"a": (16, 8), "b": (8, 3)}
    return {
        name: jax.random.normal(k, shape, dtype) / 2
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def secret(dtype=jnp.float32):
    return Batch(
        jax.random.uniform(jax.random.key(1), (1, 4, 4, 1), dtype), jnp.ones(1, int)
    )


def attack(std, batch=None, *, num_steps=12, name="adam", match=None, start=None):
    where = space.pixels(SPEC, labels="known", box=False)
    if start is not None:
        where = from_truth(where, batch, spread=start)
    return gradient_matching(
        objective(
            RELEASE,
            match or matching.squared(inverse_variance(std)),
            priors.weighted((0.1, priors.l2_norm)),
        ),
        where,
        OPTIMIZERS[name],
        num_steps,
    )


def noise(std):
    return protect(RELEASE, gaussian_noise(std))


def error(std, key=0, *, make=attack, batch=None, weights=None, **options):
    """What the defender measures, by the standard deviations of its noise."""
    batch = secret() if batch is None else batch
    weights = params() if weights is None else weights
    seen = observed(jax.random.key(7), noise(std), TARGET, weights, batch, True)
    found = unrolled(make(std), **options)(jax.random.key(key), seen)
    each = jax.vmap(mean_squared, (None, 0))(batch, found.batch)
    return jnp.sum(found.weights * each)


STD = {"a": 0.02, "b": 0.05}


def stds(dtype=jnp.float32):
    return jax.tree.map(lambda s: jnp.asarray(s, dtype), STD)


def assert_near(a, b, rtol=1e-4):
    for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("momentum", {"restarts": 3}),
        ("adam", {"remat": "step", "restarts": 2, "temperature": 0.5}),
    ],
)
def test_the_derivative_is_the_quotient_of_differences(name, options):
    with jax.enable_x64(True):
        weights, batch = params(jnp.float64), secret(jnp.float64)

        def value(std):
            match = matching.squared() if name == "momentum" else None
            make = partial(attack, name=name, match=match)
            return error(std, make=make, batch=batch, weights=weights, **options)

        at = jax.jit(jax.value_and_grad(value))  # one compile for value and slope
        found, slope = at(stds(jnp.float64))
        for leaf in STD:
            step = 1e-5 * STD[leaf]
            ends = [
                float(at({**stds(jnp.float64), leaf: jnp.asarray(STD[leaf] + s)})[0])
                for s in (step, -step)
            ]
            quotient = (ends[0] - ends[1]) / (2 * step)
            assert float(slope[leaf]) == pytest.approx(quotient, rel=2e-4)
            assert abs(quotient) > 1e-6
        assert float(found) > 0


def test_neither_what_is_kept_nor_truncation_to_all_steps_changes_the_derivative():
    def slope(**options):
        return jax.jit(jax.value_and_grad(lambda s: error(s, **options)))(stds())

    whole = slope(remat="none")
    assert_near(whole, slope(remat="segments"))
    assert_near(whole, slope(remat="step", last=12))
    value, short = slope(remat="none", last=2)
    assert float(value) == pytest.approx(float(whole[0]), rel=1e-5)
    change = abs(float(short["a"]) - float(whole[1]["a"]))
    assert change > 1e-3 * abs(float(whole[1]["a"]))


def test_truncation_stops_at_what_the_attack_closes_over_too():
    """With the observation fixed the derivative is that of the attacker's weights."""
    seen = observed(jax.random.key(7), noise(stds()), TARGET, params(), secret(), True)

    def value(std, last):
        found = unrolled(attack(std), last=last)(jax.random.key(0), seen)
        return mean_squared(secret(), jax.tree.map(lambda x: x[0], found.batch))

    short, whole = (
        jax.jit(jax.grad(value), static_argnums=1)(stds(), n) for n in (1, 12)
    )
    # The last point is stepped to and not looked at: one step decides nothing.
    assert all(float(leaf) == 0 for leaf in jax.tree.leaves(short))
    assert any(abs(float(leaf)) > 0 for leaf in jax.tree.leaves(whole))


def test_the_winner_is_the_start_of_the_best_score():
    seen = observed(jax.random.key(7), noise(stds()), TARGET, params(), secret(), True)
    run = jax.jit(unrolled(attack(stds()), restarts=4))
    found = run(jax.random.key(3), seen)
    soft = jax.jit(unrolled(attack(stds()), restarts=4, temperature=1e-4))(
        jax.random.key(3), seen
    )
    assert found.scores.shape == (4,) and len(set(np.asarray(found.scores))) == 4
    assert_near(soft.scores, found.scores)
    assert int(jnp.argmax(soft.weights)) == int(jnp.argmin(found.scores))
    assert float(soft.weights.sum()) == pytest.approx(1)
    assert_near(soft.batch.inputs[jnp.argmax(soft.weights)], found.batch.inputs[0])


def test_a_start_that_diverges_is_not_chosen_and_all_of_them_are_a_status():
    whole = attack(stds())

    def broken(at):
        def init(key, observation):
            state = whole.init(key, observation)
            bad = jax.random.key_data(key)[-1] % at == 0
            z = jax.tree.map(lambda x: jnp.where(bad, jnp.nan, x), state.z)
            return state._replace(z=z)

        return whole._replace(init=init)

    seen = observed(jax.random.key(7), noise(stds()), TARGET, params(), secret(), True)
    run = jax.jit(unrolled(broken(2), restarts=6, temperature=1e4))
    found = run(jax.random.key(0), seen)
    assert 0 < np.isinf(found.scores).sum() < 6
    assert int(found.status) == 0
    assert np.isfinite(found.batch.inputs[np.asarray(found.weights) > 0]).all()
    np.testing.assert_array_equal(found.weights > 0, np.isfinite(found.scores))
    lost = jax.jit(unrolled(broken(1), restarts=2))(jax.random.key(0), seen)
    assert int(lost.status) == 1 and float(lost.weights.sum()) == 0


def temp_bytes(num_steps, remat):
    make = partial(attack, num_steps=num_steps)
    fn = jax.jit(jax.grad(lambda s: error(s, make=make, remat=remat)))
    return fn.lower(stds()).compile().memory_analysis().temp_size_in_bytes


def test_memory_grows_with_the_root_of_the_steps():
    few, many = (temp_bytes(n, "segments") for n in (25, 400))
    everything = temp_bytes(400, "none")
    assert many < 6 * few
    assert many < everything / 8


def test_a_signed_attack_is_refused_and_a_soft_sign_is_not():
    seen = observed(jax.random.key(7), noise(stds()), TARGET, params(), secret(), True)
    for signed in (None, "soft"):
        smooth = inverting_gradients(TARGET, num_steps=3, labels="known", signed=signed)
        jax.eval_shape(unrolled(smooth), jax.random.key(0), seen)
    hard = inverting_gradients(TARGET, num_steps=3, labels="known", signed="hard")
    with pytest.raises(
        InputError, match=r"sign of the gradient; expected .*signed=None"
    ):
        jax.eval_shape(unrolled(hard), jax.random.key(0), seen)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_steps": 0}, "num_steps is 0"),
        ({"last": 13}, "last is 13; expected at most the 12"),
        ({"last": 0}, "last is 0"),
        ({"remat": "some"}, "remat is 'some'; expected one of none, step, segments"),
        ({"restarts": 0}, "restarts is 0"),
        ({"at_once": 0}, "at_once is 0"),
        ({"temperature": -1.0}, "temperature is -1.0; expected 0 or more"),
    ],
)
def test_wrong_arguments_are_named(options, words):
    with pytest.raises(InputError, match=words):
        unrolled(attack(stds()), **options)


def test_from_the_truth_less_is_lost_than_from_noise_and_none_without_noise():
    def privacy(std, start):
        fn = through_steps(
            TARGET, noise, lambda s, b: attack(s, b, num_steps=60, start=start)
        )
        return jax.jit(fn)(jax.random.key(0), std, params(), secret())

    far, near = privacy(stds(), None), privacy(stds(), 0.0)
    assert float(near.value) < float(far.value)
    louder = privacy(jax.tree.map(lambda s: 10 * s, stds()), 0.0)
    assert float(louder.value) > float(near.value)
    with pytest.raises(InputError, match="spread is -1"):
        from_truth(space.pixels(SPEC), secret(), spread=-1)
