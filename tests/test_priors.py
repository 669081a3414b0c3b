"""Priors against loops and hand computation, and at the points where roots break."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxinv import priors
from jaxinv.adapters import from_linen
from jaxinv.errors import InputError
from jaxinv.observation import observe
from jaxinv.release import gradient
from jaxinv.target import Batch, Moments, Spec, Variables, from_function

SPEC = Spec((4, 4, 3), 5)
KEY = jax.random.key(0)
NO_LABELS = jnp.zeros(2, jnp.int32)


def images(seed=0, num=2):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num, *SPEC.shape)).astype(np.float32)


def looped_variation(x, inner, outer):
    num, height, width, channels = x.shape
    total = 0.0
    for n, i, j, c in np.ndindex(num, height, width, channels):
        down = abs(x[n, i + 1, j, c] - x[n, i, j, c]) if i + 1 < height else 0.0
        right = abs(x[n, i, j + 1, c] - x[n, i, j, c]) if j + 1 < width else 0.0
        total += (down**inner + right**inner) ** outer
    return total / x.size


@pytest.mark.parametrize("opponents", [False, True])
@pytest.mark.parametrize(("inner", "outer"), [(1, 1), (2, 0.5), (1, 0.5)])
def test_total_variation_is_what_a_loop_says(inner, outer, opponents):
    prior = priors.total_variation(inner=inner, outer=outer, double_opponents=opponents)
    x = images()
    seen = np.float64(x)
    if opponents:
        red, green, blue = (seen[..., c : c + 1] for c in range(3))
        differences = (red - green, red - blue, green - blue)
        seen = np.concatenate([seen, *differences], axis=-1)
    expected = looped_variation(seen, inner, outer)
    found, slope = jax.jit(jax.value_and_grad(lambda x: prior(None, Batch(x, None))))(x)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    if not opponents:  # one coordinate against a central difference
        bumps = [np.float64(x) + h * np.eye(1, x.size).reshape(x.shape) for h in STEP]
        high, low = (looped_variation(b, inner, outer) for b in bumps)
        difference = (high - low) / (STEP[0] - STEP[1])
        np.testing.assert_allclose(slope[0, 0, 0, 0], difference, rtol=1e-2)


STEP = (1e-5, -1e-5)


@pytest.mark.parametrize(("inner", "outer"), [(1, 1), (2, 0.5), (0.5, 1), (1, 0.5)])
def test_total_variation_of_flat_images_is_zero_and_smooth(inner, outer):
    prior = priors.total_variation(inner=inner, outer=outer, double_opponents=True)
    flat = np.broadcast_to(np.float32([0.1, 0.5, 0.9]), (2, *SPEC.shape))
    found, slope = jax.jit(jax.value_and_grad(lambda x: prior(None, Batch(x, None))))(
        flat
    )
    assert 0 <= found < 1e-3 and np.isfinite(slope).all()


def test_l2_norm_is_half_the_mean_square():
    x = images()
    expected = sum(float(v) ** 2 for v in x.ravel()) / (2 * x.size)
    found = priors.l2_norm(None, Batch(x, NO_LABELS))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_weighted_is_the_weighted_sum():
    batch = Batch(images(), NO_LABELS)
    variation = priors.total_variation()
    found = priors.weighted((2.0, variation), (0.5, priors.l2_norm))(None, batch)
    parts = variation(None, batch), priors.l2_norm(None, batch)
    np.testing.assert_allclose(found, 2.0 * parts[0] + 0.5 * parts[1], rtol=1e-6)
    assert priors.weighted()(None, batch) == priors.no_prior(None, batch) == 0


class Normed(nn.Module):
    """Two batch norms, a dense layer between them and a head with bias."""

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True, name="late_name")(x)
        x = nn.Dense(4, name="between")(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=True, name="early_name")(x)
        return nn.Dense(SPEC.num_classes, name="head")(x)


@pytest.fixture(scope="module")
def normed():
    target = from_linen(Normed(), SPEC)
    params, state = jax.jit(target.init)(KEY)
    rng = np.random.default_rng(1)
    # Statistics that training could have left behind, none at its default.
    state = jax.tree.map(
        lambda s: np.float32(rng.uniform(0.5, 2.0, s.shape)), dict(state)
    )
    return target, Variables(params, state)


def moments_by_hand(variables, x):
    """What enters the two norms, in float64."""
    stats = variables.state["batch_stats"]["late_name"]
    x = np.float64(x)
    first = x.reshape(-1, 3)
    x = (x - stats["mean"]) / np.sqrt(np.float64(stats["var"]) + 1e-5)
    dense = variables.params["between"]
    second = x.reshape(len(x), -1) @ np.float64(dense["kernel"]) + dense["bias"]
    return {
        name: Moments(v.mean(0), ((v - v.mean(0)) ** 2).mean(0))
        for name, v in (("late_name", first), ("early_name", second))
    }


def distance_by_hand(found, wanted, factor):
    total = 0.0
    for name, weight in (("late_name", factor), ("early_name", 1.0)):
        for a, b in zip(found[name], wanted[name], strict=True):
            total += weight * np.linalg.norm(np.asarray(a) - np.asarray(b))
    return total


def seen_by(variables, *, stats=None, num=2):
    update = jax.tree.map(np.ones_like, variables.params)
    return observe(variables, update, num_examples=num, spec=SPEC, batch_stats=stats)


@pytest.mark.parametrize("factor", [1.0, 10.0])
def test_batch_norm_compares_with_the_running_statistics(normed, factor):
    target, variables = normed
    prior = jax.jit(priors.batch_norm_statistics(target, first_factor=factor))
    x = images(2)
    running = {
        name: Moments(s["mean"], s["var"])
        for name, s in variables.state["batch_stats"].items()
    }
    expected = distance_by_hand(moments_by_hand(variables, x), running, factor)
    found = prior(seen_by(variables), Batch(x, NO_LABELS))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_granted_batch_statistics_win(normed):
    target, variables = normed
    prior = jax.jit(priors.batch_norm_statistics(target))
    x, other = images(2), images(3)
    true = {
        name: Moments(np.float32(m.mean), np.float32(m.var))
        for name, m in moments_by_hand(variables, x).items()
    }
    observation = seen_by(variables, stats=true)
    assert prior(observation, Batch(x, NO_LABELS)) < 1e-4
    expected = distance_by_hand(moments_by_hand(variables, other), true, 1.0)
    found = prior(observation, Batch(other, NO_LABELS))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert expected > 0.1


def test_batch_norm_is_the_mean_over_rounds(normed):
    target, variables = normed
    prior = priors.batch_norm_statistics(target)
    batch = Batch(images(2), NO_LABELS)
    moved = jax.tree.map(lambda leaf: 1.5 * leaf, variables)
    rounds = [seen_by(variables), seen_by(moved)]
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *rounds)
    expected = np.mean([jax.jit(prior)(r, batch) for r in rounds])
    np.testing.assert_allclose(jax.jit(prior)(both, batch), expected, rtol=1e-5)


def test_batch_norm_refuses_what_it_cannot_compare(normed):
    target, variables = normed
    batch = Batch(images(), NO_LABELS)
    prior = priors.batch_norm_statistics(target)
    one = {"late_name": Moments(np.zeros(3), np.ones(3))}
    with pytest.raises(InputError, match="batch_stats lacks the layer early_name"):
        jax.eval_shape(prior, seen_by(variables, stats=one), batch)
    plain = from_linen(Plain(), SPEC)
    params = jax.jit(plain.init)(KEY)
    seen = observe(params, params, num_examples=2, spec=SPEC)
    with pytest.raises(
        InputError, match="the batch-norm prior needs batch-norm layers"
    ):
        jax.eval_shape(priors.batch_norm_statistics(plain), seen, batch)


class Plain(nn.Module):
    """A convolution and a head with bias, whose kernel is large enough to be sure."""

    @nn.compact
    def __call__(self, x):
        x = nn.sigmoid(nn.Conv(2, (3, 3))(x)).reshape(len(x), -1)
        return nn.Dense(SPEC.num_classes, name="head")(x)


@pytest.fixture(scope="module")
def plain():
    target = from_linen(Plain(), SPEC)
    return target, jax.jit(target.init)(KEY)


def release_of(plain, batch):
    target, params = plain
    update = jax.jit(gradient(target.loss))(KEY, params, batch)
    return observe(params, update, num_examples=len(batch.labels), spec=target.spec)


def test_features_of_a_batch_of_one_are_betrayed_exactly(plain):
    batch = Batch(images(4, num=1), jnp.array([3]))
    prior = jax.jit(priors.features(plain[0]))
    seen = release_of(plain, batch)
    assert prior(seen, batch) < 1e-10
    assert prior(seen, Batch(images(5, num=1), batch.labels)) > 1e-3


def test_features_of_distinct_labels_are_nearest_in_the_true_order(plain):
    target, params = plain
    # Sure of class 4 on every example, so that rows 0 to 2 hold one example each.
    bias = 30.0 * jnp.eye(1, SPEC.num_classes, 4)[0]
    params = {**params, "head": {**params["head"], "bias": bias}}
    batch = Batch(images(4, num=3), jnp.array([2, 0, 1]))
    seen = release_of((target, params), batch)
    prior = jax.jit(priors.features(target))
    assert prior(seen, batch) < 1e-10
    assert prior(seen, batch._replace(inputs=batch.inputs[::-1])) > 1e-3
    soft = batch._replace(labels=0.9 * jax.nn.one_hot(batch.labels, SPEC.num_classes))
    assert prior(seen, soft) < 1e-10


def test_features_are_read_where_the_update_is_visible_alone(plain):
    target, params = plain
    batch = Batch(images(4, num=1), jnp.array([3]))
    other = Batch(images(5, num=1), batch.labels)
    update = jax.grad(target.loss)(params, batch)
    prior = jax.jit(priors.features(target))

    def seen(row):
        visible = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)
        visible["head"]["kernel"] = visible["head"]["kernel"].at[row].set(False)
        # What is hidden reads as zero, which no feature should be drawn to.
        return observe(
            params, update, num_examples=1, spec=target.spec, visible=visible
        )

    half = slice(0, update["head"]["kernel"].shape[0] // 2)
    assert prior(seen(half), batch) < 1e-10 < 1e-3 < prior(seen(half), other)
    assert prior(seen(slice(None)), batch) == prior(seen(slice(None)), other) == 0


def test_features_of_a_zero_bias_gradient_are_finite(plain):
    target, params = plain
    zeros = jax.tree.map(jnp.zeros_like, params)
    seen = observe(params, zeros, num_examples=2, spec=target.spec)
    prior = priors.features(target)
    slope = jax.jit(jax.grad(lambda x: prior(seen, Batch(x, NO_LABELS))))(images())
    assert np.isfinite(slope).all()


def test_epoch_consistency_is_the_mean_over_pairs():
    """Of the mean images; the features alone are the rest."""
    x = images(6, num=6)
    each = x.reshape(3, 2, *SPEC.shape).mean(1)
    pairs = [np.mean((a - b) ** 2) for a in each for b in each]
    prior = jax.jit(priors.epoch_consistency(3, num_features=0))
    np.testing.assert_allclose(prior(None, Batch(x, None)), np.mean(pairs), rtol=1e-5)
    whole = priors.epoch_consistency(3, num_features=8)(None, Batch(x, None))
    features = priors.epoch_consistency(3, num_features=8, pixel_weight=0.0)
    rest = features(None, Batch(x, None))
    assert rest > 0
    np.testing.assert_allclose(whole, rest + np.mean(pairs), rtol=1e-5)


def test_epoch_consistency_knows_no_order_and_sees_more_than_the_mean():
    x = images(7, num=4)
    prior = jax.jit(priors.epoch_consistency(3))
    orders = [[0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]]
    same = np.concatenate([x[order] for order in orders])
    assert prior(None, Batch(same, None)) < 1e-12
    # Two sets of the same mean image: only the features tell them apart.
    blurred = np.tile(x.mean(0), (4, 1, 1, 1))
    mixed = np.concatenate([x, x, blurred])
    plain = priors.epoch_consistency(3, num_features=0)
    assert plain(None, Batch(mixed, None)) < 1e-12
    assert prior(None, Batch(mixed, None)) > 1e-3


BARE = from_function(lambda params, batch: jnp.zeros(()), SPEC)
GREY = Batch(np.zeros((1, 4, 4, 1), np.float32), NO_LABELS)
FLAT = Batch(np.zeros((1, 7), np.float32), NO_LABELS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: priors.total_variation(inner=0), "inner is 0; expected"),
        (lambda: priors.total_variation(outer=-1), "outer is -1; expected"),
        (lambda: priors.total_variation()(None, FLAT), r"inputs has shape \(1, 7\)"),
        (
            lambda: priors.total_variation(double_opponents=True)(None, GREY),
            "double_opponents needs images of 3 channels; these have 1",
        ),
        (lambda: priors.batch_norm_statistics(BARE), "the batch-norm prior needs"),
        (lambda: priors.features(BARE), "the feature prior needs a target with"),
        (lambda: priors.epoch_consistency(0), "epochs is 0; expected"),
        (
            lambda: priors.epoch_consistency(2, num_features=-1),
            "num_features is -1 and pixel_weight 1.0; expected",
        ),
        (
            lambda: priors.epoch_consistency(2)(None, GREY),
            r"inputs has shape \(1, 4, 4, 1\); expected",
        ),
        (lambda: priors.epoch_consistency(1)(None, FLAT), r"inputs has shape \(1, 7\)"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(InputError, match=f"^{message}[^\n]*$"):
        make()
