"""Defences that act on examples: DP-SGD, mixup, Soteria; and rotation of an update."""

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv.defenses.clipping import clipping
from jaxinv.defenses.dp_sgd import dp_sgd, epsilon
from jaxinv.defenses.mixup import mixup
from jaxinv.defenses.protection import keyed
from jaxinv.defenses.pruning import pruning
from jaxinv.defenses.quantisation import stochastic_quantisation
from jaxinv.defenses.rotation import hadamard, rotated
from jaxinv.defenses.soteria import OFFSET, soteria
from jaxinv.errors import InputError
from jaxinv.models import build
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec

pytestmark = pytest.mark.usefixtures("compiled_quickly")

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def planted():
    target = build("mlp", Spec((4, 4, 1), 3), widths=(8,))
    params = target.init(KEY)
    inputs = jax.random.normal(jax.random.key(1), (5, 4, 4, 1))
    return target, params, Batch(inputs, jnp.array([0, 1, 2, 1, 0]))


def close(a, b, rtol=1e-5, atol=1e-7):
    for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


def test_dp_sgd_without_strength_is_the_gradient(planted):
    target, params, batch = planted
    release = dp_sgd(gradient(target.loss), clip=math.inf, noise_multiplier=0)
    close(
        jax.jit(release)(KEY, params, batch), gradient(target.loss)(KEY, *planted[1:])
    )


def test_dp_sgd_is_the_mean_of_clipped_gradients_with_noise_of_its_size(planted):
    target, params, batch = planted
    bound, total = 0.3, None
    for i in range(5):
        one = Batch(batch.inputs[i : i + 1], batch.labels[i : i + 1])
        slope = gradient(target.loss)(KEY, params, one)
        norm = optax.global_norm(slope)
        assert norm > bound
        slope = jax.tree.map(lambda leaf, n=norm: leaf * bound / n, slope)
        total = slope if total is None else jax.tree.map(jnp.add, total, slope)
    mean = jax.tree.map(lambda leaf: leaf / 5, total)
    quiet = dp_sgd(gradient(target.loss), clip=bound, noise_multiplier=0)
    close(quiet(KEY, params, batch), mean)
    loud = jax.jit(dp_sgd(gradient(target.loss), clip=bound, noise_multiplier=2.0))
    draws = [loud(key, params, batch) for key in jax.random.split(KEY, 40)]
    off = [jax.tree.map(jnp.subtract, draw, mean) for draw in draws]
    values = np.concatenate(
        [np.ravel(x) for tree in off for x in jax.tree.leaves(tree)]
    )
    assert values.std() == pytest.approx(2.0 * bound / 5, rel=0.05)


def test_epsilon_agrees_with_the_known_value_and_says_what_it_lacks(monkeypatch):
    # The moments accountant's example: sigma 4, q 0.01, 10,000 steps, delta 1e-5 is
    # 1.26 (Abadi et al. 2016, section 3.2); newer conversions are tighter.
    spent = epsilon(4.0, sampling_rate=0.01, rounds=10_000, delta=1e-5)
    assert 0.9 < spent < 1.26
    assert epsilon(4.0, sampling_rate=0.01, rounds=20_000, delta=1e-5) > spent
    assert epsilon(0.0, sampling_rate=0.01, rounds=1, delta=1e-5) == math.inf
    # One release of all: the Gaussian mechanism, sigma of at most its classical bound.
    once = epsilon(4.85, sampling_rate=1.0, rounds=1, delta=1e-5)
    assert once < math.sqrt(2 * math.log(1.25 / 1e-5)) / 4.85
    with pytest.raises(InputError, match="sampling_rate is None; epsilon expects"):
        epsilon(1.0, sampling_rate=None, rounds=1, delta=1e-5)
    with pytest.raises(InputError, match="delta is 0; expected more than 0"):
        epsilon(1.0, sampling_rate=0.1, rounds=1, delta=0)
    with pytest.raises(InputError, match="sampling_rate is 1"):
        epsilon(1.0, sampling_rate=1.5, rounds=1, delta=1e-5)
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(InputError, match=r"pip install 'jaxinv\[privacy\]'"):
        epsilon(1.0, sampling_rate=0.1, rounds=1, delta=1e-5)


def test_mixup_mixes_inputs_and_labels_alike(planted):
    target, params, batch = planted
    whole = mixup(gradient(target.loss), 3, alpha=1.0)
    mixed = whole.mixed(KEY, batch)
    np.testing.assert_allclose(mixed.labels.sum(1), 1, rtol=1e-6)
    share = jax.random.beta(jax.random.split(KEY)[0], 1.0, 1.0)
    order = jax.random.permutation(jax.random.split(KEY)[1], 5)
    np.testing.assert_allclose(
        mixed.inputs,
        share * batch.inputs + (1 - share) * batch.inputs[order],
        rtol=1e-6,
    )
    own, drawn = jax.random.split(KEY)
    close(
        whole(KEY, params, batch),
        gradient(target.loss)(own, params, whole.mixed(drawn, batch)),
    )
    none = mixup(gradient(target.loss), 3, alpha=0.0)
    close(none(KEY, params, batch), gradient(target.loss)(KEY, params, batch))


def test_soteria_leaves_out_what_says_most_of_the_input(planted):
    target, params, batch = planted
    defended = soteria(gradient(target.loss), target, rate=0.25, at_once=3)
    plain = gradient(target.loss)(KEY, params, batch)
    sent = jax.jit(defended)(KEY, params, batch)

    def features(inputs):
        return target.probe(params, Batch(inputs, batch.labels)).features

    values = features(batch.inputs)
    jacobian = jax.jacrev(features)(batch.inputs)  # [N, D, N, H, W, C]
    own = jnp.stack([jacobian[i, :, i].reshape(values.shape[1], -1) for i in range(5)])
    ratio = (jnp.linalg.norm(own, axis=2) / (jnp.abs(values) + OFFSET)).mean(0)
    pruned = set(np.argsort(ratio)[:2].tolist())  # a quarter of 8
    changed = [
        (a, b)
        for a, b in zip(*map(jax.tree.leaves, (sent, plain)), strict=True)
        if not np.allclose(a, b, rtol=1e-5, atol=1e-7)
    ]
    ((head, before),) = changed
    assert head.shape == (8, 3)
    assert {i for i in range(8) if not np.any(head[i])} == pruned
    rows = [i for i in range(8) if i not in pruned]
    np.testing.assert_allclose(head[rows[0]], before[rows[0]], rtol=1e-4)
    close(soteria(gradient(target.loss), target, rate=0.0)(KEY, params, batch), plain)


def test_the_hadamard_transform_is_orthonormal_and_its_own_inverse():
    matrix = jax.vmap(hadamard)(jnp.eye(8))
    np.testing.assert_allclose(matrix @ matrix.T, jnp.eye(8), atol=1e-6)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-7)
    np.testing.assert_allclose(jnp.abs(matrix), 8**-0.5, rtol=1e-6)


def test_a_rotation_is_undone_and_keeps_what_is_blind_to_it():
    update = {"w": jax.random.normal(KEY, (3, 4)), "b": jnp.arange(5.0)}

    def sent(defense):
        return defense.update(update, keyed(defense.init(update), KEY), update)[0]

    close(sent(rotated(pruning(0.0))), update, atol=1e-6)
    # Norms are the same in every basis, coordinates are not.
    close(sent(rotated(clipping(1.0))), sent(clipping(1.0)), atol=1e-6)
    assert not np.allclose(sent(rotated(pruning(0.5)))["w"], sent(pruning(0.5))["w"])
    # One large number spoils the steps of all, but for the rotation.
    spiky = {"w": jnp.zeros(1024).at[0].set(100.0) + 0.1}

    def error(defense):
        found = defense.update(spiky, keyed(defense.init(spiky), KEY), spiky)[0]
        return float(jnp.abs(found["w"] - spiky["w"])[1:].mean())

    assert error(rotated(stochastic_quantisation(8))) != error(
        stochastic_quantisation(8)
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: dp_sgd(gradient(t.loss), clip=-1.0), "clip is -1.0"),
        (
            lambda t: dp_sgd(gradient(t.loss), noise_multiplier=-1.0),
            "noise_multiplier is -1.0",
        ),
        (
            lambda t: dp_sgd(gradient(t.loss), clip=math.inf),
            "clip is inf; expected a finite one",
        ),
        (lambda t: mixup(gradient(t.loss), 3, alpha=-1), "alpha is -1"),
        (
            lambda t: soteria(gradient(t.loss), t, rate=2),
            "rate is 2; expected a number",
        ),
        (
            lambda t: soteria(gradient(t.loss), t._replace(probe=None)),
            "target has no probe",
        ),
    ],
)
def test_bad_arguments_are_named(planted, make, words):
    with pytest.raises(InputError, match=words):
        make(planted[0])
