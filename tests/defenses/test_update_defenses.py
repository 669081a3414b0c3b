"""Laws of the defences that act on an update, each as a hypothesis test."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxinv.defenses.clipping import clipping
from jaxinv.defenses.noise import gaussian_noise, laplace_noise
from jaxinv.defenses.protection import expected, keyed, protect
from jaxinv.defenses.pruning import pruning
from jaxinv.defenses.quantisation import sign, stochastic_quantisation
from jaxinv.errors import InputError

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def tensors(shape):
    # No number whose mean or product may be subnormal: compilers take those for 0.
    sizes = st.floats(-1e3, 1e3, width=32).map(lambda x: x if abs(x) > 1e-15 else 0.0)
    return arrays(np.float32, shape, elements=sizes)


updates = st.tuples(tensors((3, 4)), tensors(5), tensors(1)).map(list)
quick = settings(max_examples=40, deadline=None, derandomize=True)

DEFENSES = {
    "clipping": clipping(1.0),
    "clipping by layer": clipping(1.0, scope="layer"),
    "gaussian": gaussian_noise(0.1),
    "laplace": laplace_noise(0.1),
    "pruning": pruning(0.5),
    "pruning by layer": pruning(0.5, scope="layer"),
    "sign": sign(),
    "stochastic": stochastic_quantisation(4),
    "chain": optax.chain(clipping(1.0), gaussian_noise(0.1), pruning(0.5)),
}
NOTHING = [
    clipping(np.inf),
    gaussian_noise(0.0),
    laplace_noise(0.0),
    pruning(0.0),
    pruning(0.0, scope="layer"),
]
# Few strengths, for every one is compiled.
BOUNDS = {bound: clipping(bound) for bound in (0.0, 0.1, 1.0, 300.0)}
BY_LAYER = {bound: clipping(bound, scope="layer") for bound in (0.0, 0.1, 1.0, 300.0)}
RATES = {rate: pruning(rate) for rate in (0.0, 0.1, 0.5, 0.97, 1.0)}
UPDATE = {"w": jnp.array([[3.0, -0.1], [0.5, -2.0]]), "b": jnp.array([0.01, -4.0])}


def sent(defense, update, key=0):
    return compiled(defense)(jax.random.key(key), update)


@functools.lru_cache(maxsize=64)
def compiled(defense):
    def update(key, update):
        return defense.update(update, keyed(defense.init(update), key), update)[0]

    return jax.jit(update)


def norm(tree):
    return float(np.sqrt(sum(np.sum(np.float64(leaf) ** 2) for leaf in tree)))


@pytest.mark.parametrize("name", DEFENSES)
def test_a_defense_is_a_transformation_under_jit_and_vmap(name):
    defense = DEFENSES[name]
    alone = sent(defense, UPDATE)
    jitted = jax.jit(lambda u: sent(defense, u))(UPDATE)
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), UPDATE)
    batched = jax.vmap(lambda u: sent(defense, u))(twice)
    for a, b, c in zip(*map(jax.tree.leaves, (alone, jitted, batched)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
        np.testing.assert_allclose(a, c[1], rtol=1e-6)
    assert jax.tree.structure(alone) == jax.tree.structure(UPDATE)


@pytest.mark.parametrize("name", DEFENSES)
def test_the_same_key_draws_the_same_and_another_key_another(name):
    defense = DEFENSES[name]
    first, again, other = (sent(defense, UPDATE, key) for key in (1, 1, 2))
    assert all(jax.tree.leaves(jax.tree.map(jnp.array_equal, first, again)))
    draws = name in ("gaussian", "laplace", "stochastic", "chain")
    same = all(jax.tree.leaves(jax.tree.map(jnp.array_equal, first, other)))
    assert same != draws


@quick
@given(updates)
def test_no_strength_changes_nothing(update):
    for defense in NOTHING:
        for a, b in zip(update, sent(defense, update), strict=True):
            np.testing.assert_array_equal(a, b)


@quick
@given(updates, st.sampled_from(sorted(BOUNDS)))
def test_a_clipped_update_is_no_longer_than_the_bound_and_points_the_same_way(
    update, bound
):
    found = sent(BOUNDS[bound], update)
    assert norm(found) <= bound * (1 + 1e-5)
    if norm(update) <= bound * (1 - 1e-5):
        for a, b in zip(update, found, strict=True):
            np.testing.assert_array_equal(a, b)
    flat = [np.concatenate([np.ravel(leaf) for leaf in t]) for t in (update, found)]
    product = np.float64(flat[0]) @ np.float64(flat[1])
    assert product >= (1 - 1e-5) * norm(update) * norm(found) - 1e-30
    for leaf in sent(BY_LAYER[bound], update):
        assert norm([leaf]) <= bound * (1 + 1e-5)


def test_clipping_has_finite_slopes_at_nothing_and_at_the_largest_numbers():
    for value in (0.0, 1e30):
        update = {"w": jnp.full(3, value)}
        slope = jax.grad(lambda u: sent(clipping(1.0), u)["w"].sum())(update)
        assert np.isfinite(slope["w"]).all()
        assert np.isfinite(sent(clipping(1.0), update)["w"]).all()


@quick
@given(updates, st.sampled_from(sorted(RATES)))
def test_pruning_keeps_the_largest_and_as_many_as_said(update, rate):
    sizes = np.concatenate([np.abs(np.ravel(leaf)) for leaf in update])
    found = sent(RATES[rate], update)
    after = np.concatenate([np.abs(np.ravel(leaf)) for leaf in found])
    zeroed = round(rate * len(sizes))
    assert (after == 0).sum() >= zeroed
    assert (after != sizes).sum() <= zeroed
    if (sizes[after == 0]).size and (after > 0).any():
        assert sizes[after == 0].max() <= after[after > 0].min()
    again = sent(RATES[rate], found)
    for a, b in zip(found, again, strict=True):
        np.testing.assert_array_equal(a, b)


@quick
@given(updates)
def test_pruning_by_layer_takes_the_same_share_of_every_tensor(update):
    for leaf, found in zip(
        update, sent(DEFENSES["pruning by layer"], update), strict=True
    ):
        alone = sent(DEFENSES["pruning"], [leaf])[0]
        np.testing.assert_array_equal(found, alone)


@quick
@given(tensors((3, 4)))
def test_signs_have_one_size(leaf):
    found = np.asarray(sent(DEFENSES["sign"], [leaf])[0])
    np.testing.assert_array_equal(np.sign(found), np.sign(leaf))
    np.testing.assert_allclose(np.abs(found[leaf != 0]), np.abs(leaf).mean(), rtol=1e-5)


def test_stochastic_rounding_is_unbiased_and_on_its_grid():
    leaf = jax.random.normal(jax.random.key(0), (50,))
    defense = stochastic_quantisation(2)
    draw = jax.jit(
        jax.vmap(
            lambda k: defense.update([leaf], keyed(defense.init([leaf]), k), None)[0][0]
        )
    )
    found = np.asarray(draw(jax.random.split(jax.random.key(1), 20_000)), np.float64)
    length = float(jnp.linalg.norm(leaf))
    steps = found / (length / 3)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)
    error = np.abs(found.mean(0) - np.asarray(leaf))
    spread = found.std(0) / np.sqrt(len(found)) + 1e-6
    assert (error < 5 * spread).all()


def test_noise_has_the_deviation_asked_for_tensor_by_tensor():
    update = {"a": jnp.zeros(100_000), "b": jnp.zeros(100_000)}
    for make in (gaussian_noise, laplace_noise):
        found = sent(make({"a": 0.5, "b": 2.0}), update)
        assert np.std(found["a"]) == pytest.approx(0.5, rel=0.02)
        assert np.std(found["b"]) == pytest.approx(2.0, rel=0.02)
    # Laplace: E|x| = std / sqrt(2); Gauss: std * sqrt(2 / pi).
    found = sent(laplace_noise(1.0), update)["a"]
    assert np.abs(found).mean() == pytest.approx(np.sqrt(0.5), rel=0.02)


def test_noise_is_differentiable_in_its_deviation():
    def size(std):
        return jnp.sum(sent(gaussian_noise(std), {"w": jnp.zeros(5)})["w"] ** 2)

    step = 1e-2
    slope = jax.grad(size)(jnp.asarray(0.3))
    off = (size(jnp.asarray(0.3 + step)) - size(jnp.asarray(0.3 - step))) / (2 * step)
    assert float(slope) == pytest.approx(float(off), rel=1e-3)


def test_quantisers_pass_derivatives_through():
    for defense in (sign(), stochastic_quantisation(3)):
        slope = jax.grad(lambda u, d=defense: (sent(d, [u])[0] * u).sum())(
            jnp.array([0.3, -2.0])
        )
        found = sent(defense, [jnp.array([0.3, -2.0])])[0]
        np.testing.assert_allclose(slope, found + jnp.array([0.3, -2.0]), rtol=1e-6)


def release(key, params, batch):
    return jax.tree.map(lambda p: p * batch + jax.random.uniform(key), params)


def test_a_protected_release_is_the_defense_of_the_release():
    key = jax.random.key(3)
    guarded = protect(release, clipping(1.0), pruning(0.5))
    plain = release(jax.random.split(key)[0], UPDATE, 2.0)
    by_hand = sent(pruning(0.5), sent(clipping(1.0), plain))
    found = guarded(key, UPDATE, 2.0)
    for a, b in zip(*map(jax.tree.leaves, (by_hand, found)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert guarded.local is None


def test_two_draws_of_one_chain_are_independent():
    zeros = {"w": jnp.zeros(1000)}
    once = sent(gaussian_noise(1.0), zeros)["w"]
    both = sent(optax.chain(gaussian_noise(1.0), gaussian_noise(1.0)), zeros)["w"]
    assert float(both.std()) == pytest.approx(2**0.5 * float(once.std()), rel=0.1)


def test_the_expected_release_is_the_mean_of_its_draws():
    guarded = protect(release, gaussian_noise(0.5))
    key = jax.random.key(0)
    found = expected(guarded, 3)(key, UPDATE, 1.0)
    draws = [guarded(k, UPDATE, 1.0) for k in jax.random.split(key, 3)]
    mean = jax.tree.map(lambda *leaves: sum(leaves) / 3, *draws)
    for a, b in zip(*map(jax.tree.leaves, (mean, found)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gaussian_noise(-1.0), "std is -1.0; expected a number 0 or more"),
        (lambda: laplace_noise(float("nan")), "std is nan"),
        (lambda: clipping(-1), "norm is -1"),
        (lambda: clipping(1.0, scope="row"), "scope is 'row'; expected one of global"),
        (lambda: pruning(1.5), "rate is 1.5; expected a number between 0 and 1"),
        (lambda: pruning("half"), "rate is 'half'"),
        (
            lambda: stochastic_quantisation(0),
            "bits is 0; expected an integer from 1 to 16",
        ),
        (lambda: protect(release), "defenses is empty"),
        (lambda: protect(release, 0.5), "defense is 0.5; expected an optax"),
        (lambda: expected(release, 0), "draws is 0; expected a positive integer"),
        (
            lambda: sent(gaussian_noise({"w": 1.0}), UPDATE),
            "expected one number, or one for every tensor",
        ),
    ],
)
def test_bad_arguments_are_named(make, words):
    with pytest.raises(InputError, match=words):
        make()
