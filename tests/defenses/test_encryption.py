"""Selective encryption: significances, masks, their cost, and the distance removed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinv import matching
from jaxinv.defenses.encryption import (
    GRANULARITIES,
    METRICS,
    CkksParameters,
    averaged,
    distance_parts,
    distance_shares,
    encryption,
    encryption_mask,
    metric,
    overhead,
    positions,
    removed,
    taken,
)
from jaxinv.errors import InputError
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec, cross_entropy, from_function

pytestmark = pytest.mark.usefixtures("compiled_quickly")

KEY = jax.random.key(0)
SPEC = Spec((2, 2, 1), 3)


def logits_of(params, inputs):
    hidden = jnp.tanh(inputs.reshape(len(inputs), -1) @ params["a"]["kernel"])
    hidden = hidden + params["a"]["bias"]
    return hidden @ params["b"]["kernel"] + params["b"]["bias"]


def loss(params, batch):
    return cross_entropy(logits_of(params, batch.inputs), batch.labels)


TARGET = from_function(loss, SPEC)


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


PARAMS = {
    "a": {"kernel": draw(0, 4, 5), "bias": draw(1, 5)},
    "b": {"kernel": draw(2, 5, 3), "bias": draw(3, 3)},
}
BATCH = Batch(draw(4, 2, 2, 2, 1), jnp.array([2, 0]))
UPDATE = jax.jit(gradient(loss))(KEY, PARAMS, BATCH)
TOTAL = sum(leaf.size for leaf in jax.tree.leaves(PARAMS))
# Many ties: multiples of a quarter.
SCORES = jax.tree.map(lambda leaf: jnp.round(4 * jnp.abs(leaf)) / 4, PARAMS)
RANKED = {g: positions(KEY, SCORES, granularity=g) for g in GRANULARITIES}


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def score(name, **options):
    return jax.jit(metric(name, TARGET, **options))(KEY, PARAMS, BATCH, UPDATE)


RATIOS = st.floats(0, 1, allow_subnormal=False)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(RATIOS, RATIOS)
def test_masks_have_the_size_asked_take_the_highest_and_are_nested(one, other):
    low, high = sorted((one, other))
    few, many = (taken(RANKED["coordinate"], r) for r in (low, high))
    assert flat(few).sum() == round(low * TOTAL)
    assert flat(many).sum() == round(high * TOTAL)
    assert not np.any(flat(few) & ~flat(many))
    inside, outside = flat(SCORES)[flat(few)], flat(SCORES)[~flat(few)]
    assert inside.min(initial=np.inf) >= outside.max(initial=-np.inf)
    each = taken(RANKED["per_tensor"], low, granularity="per_tensor")
    for leaf in jax.tree.leaves(each):
        assert leaf.sum() == round(low * leaf.size)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(RATIOS, st.sampled_from(["tensor", "layer"]))
def test_whole_units_are_taken_until_the_budget_is_reached(ratio, granularity):
    mask = taken(RANKED[granularity], ratio, granularity=granularity)
    owner = mask if granularity == "layer" else dict(enumerate(jax.tree.leaves(mask)))
    units = [flat(unit) for unit in owner.values()]
    assert all(unit.all() or not unit.any() for unit in units)
    sizes = [unit.size for unit in units if unit.all()]
    budget = round(ratio * TOTAL)
    assert sum(sizes) >= budget
    # The one taken last, that of the lowest mean, was still needed.
    source = SCORES if granularity == "layer" else dict(enumerate(flat_leaves(SCORES)))
    means = [flat(unit).mean() for unit in source.values()]
    chosen = [m for m, unit in zip(means, units, strict=True) if unit.all()]
    left = [m for m, unit in zip(means, units, strict=True) if not unit.all()]
    if chosen:
        last = sizes[int(np.argmin(chosen))]
        assert sum(sizes) - last < budget
        assert min(chosen) >= max(left, default=-np.inf)


def flat_leaves(tree):
    return [np.ravel(leaf) for leaf in jax.tree.leaves(tree)]


def test_ties_are_broken_by_the_key_alone():
    same = jax.tree.map(jnp.ones_like, PARAMS)
    masks = [flat(encryption_mask(k, same, 0.5)) for k in (KEY, KEY, jax.random.key(1))]
    assert np.array_equal(masks[0], masks[1]) and not np.array_equal(*masks[1:])
    apart = jax.tree.map(lambda leaf, d: leaf + 1e-3 * d, same, PARAMS)
    masks = [flat(encryption_mask(k, apart, 0.5)) for k in (KEY, jax.random.key(1))]
    assert np.array_equal(*masks)
    # What is no number is the last to be taken.
    lost = {**apart, "b": jax.tree.map(lambda leaf: leaf * jnp.nan, apart["b"])}
    mask = encryption_mask(KEY, lost, 25 / TOTAL)
    assert flat(mask["a"]).all() and not flat(mask["b"]).any()


def test_metrics_of_the_update_are_what_they_say():
    np.testing.assert_array_equal(flat(score("magnitude")), np.abs(flat(UPDATE)))
    weighted = np.abs(flat(UPDATE) * flat(PARAMS))
    np.testing.assert_allclose(flat(score("product_weight")), weighted, rtol=1e-6)
    # MaskCrypt's with the sent weights is the order of the magnitude ...
    default = flat(score("product_exposed", learning_rate=0.5))
    np.testing.assert_allclose(default, 0.5 * flat(UPDATE) ** 2, rtol=1e-3, atol=1e-7)
    # ... and with other weights signed: what would lower the loss comes last.
    exposed = jax.tree.map(lambda w: 0.5 * w, PARAMS)
    found = jax.jit(metric("product_exposed", TARGET, exposed=exposed))
    latest = flat(PARAMS) - flat(UPDATE)
    wanted = (0.5 * flat(PARAMS) - latest) * flat(UPDATE)
    np.testing.assert_allclose(
        flat(found(KEY, PARAMS, BATCH, UPDATE)), wanted, rtol=1e-4, atol=1e-7
    )
    assert wanted.min() < 0
    drawn = [
        flat(metric("random", TARGET)(k, PARAMS, BATCH, UPDATE))
        for k in jax.random.split(KEY)
    ]
    assert len(np.unique(drawn)) == 2 * TOTAL


def test_the_sensitivity_is_that_of_finite_differences_and_of_log_probabilities():
    with jax.enable_x64(True):
        params, batch = wide(PARAMS), wide(BATCH)
        scored = jax.jit(metric("sensitivity", TARGET))
        found = flat(scored(KEY, params, batch, None))
        slope = jax.jit(jax.grad(loss))
        soft = jax.nn.one_hot(batch.labels, 3, dtype=jnp.float64)
        total = np.zeros(TOTAL)
        for n in range(2):
            for k in range(3):
                moved = [
                    flat(slope(params, Batch(batch.inputs, soft.at[n, k].add(step))))
                    for step in (1e-4, -1e-4)
                ]
                total += np.abs(moved[0] - moved[1]) / 2e-4 / 3
        np.testing.assert_allclose(found, total, rtol=1e-6, atol=1e-9)

        def log_probabilities(params):
            return jax.nn.log_softmax(logits_of(params, batch.inputs)) / 2

        rows = jax.jit(jax.jacrev(log_probabilities))(params)
        direct = jax.tree.map(lambda row: jnp.abs(row).sum((0, 1)) / 3, rows)
        np.testing.assert_allclose(found, flat(direct), rtol=1e-9)
        other = Batch(batch.inputs, jnp.array([1, 1]))
        blind = flat(scored(KEY, params, other, None))
        np.testing.assert_allclose(found, blind, rtol=1e-9)  # cross-entropy is linear
    both = flat(score("product_sensitivity"))
    np.testing.assert_allclose(both, np.abs(flat(UPDATE)) * found, rtol=1e-3, atol=1e-7)


def wide(tree):
    def one(leaf):
        leaf = jnp.asarray(leaf)
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(jnp.float64) if floating else leaf

    return jax.tree.map(one, tree)


@pytest.fixture(scope="module")
def jacobian():
    """`[coordinates, 2, 4]`, of the gradient by each example's inputs, differences."""
    with jax.enable_x64(True):
        params, batch = wide(PARAMS), wide(BATCH)
        slope = jax.jit(jax.grad(loss))
        rows = []
        for i in range(8):
            step = jnp.zeros(8).at[i].set(1e-5).reshape(batch.inputs.shape)
            ends = [
                flat(slope(params, batch._replace(inputs=batch.inputs + s)))
                for s in (step, -step)
            ]
            rows.append((ends[0] - ends[1]) / 2e-5)
        return np.stack(rows, -1).reshape(TOTAL, 2, 4)


def test_the_sensitivity_to_the_input_is_the_norm_of_the_jacobian(jacobian):
    found = flat(score("input_sensitivity", num_directions=4000))
    np.testing.assert_allclose(found, np.linalg.norm(jacobian, axis=(1, 2)), rtol=0.08)


def test_layers_are_ranked_by_the_derivative_of_their_sum(jacobian):
    found = score("layer_sensitivity")
    parts = np.split(jacobian, [25])
    for layer, part in zip("ab", parts, strict=True):
        # Each example's own gradient is N = 2 times its part in that of the mean.
        each = [2 * np.linalg.norm(part[:, n].sum(0)) for n in range(2)]
        wanted = np.mean(each)
        np.testing.assert_allclose(flat(found[layer]), wanted, rtol=1e-4, atol=1e-6)
        # Softmax's gradients sum to zero over the classes, so the output layer's do.
        assert (wanted < 1e-6) == (layer == "b")


def test_one_mask_for_several_clients_follows_their_shares():
    maps = jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf, 2 * leaf]), PARAMS)
    np.testing.assert_allclose(flat(averaged(maps)), flat(PARAMS) * 2 / 3, rtol=1e-5)
    weighted = averaged(maps, jnp.array([1.0, 3.0, 0.0]))
    np.testing.assert_allclose(flat(weighted), -0.5 * flat(PARAMS), rtol=1e-5)


def test_ciphertexts_are_counted_by_their_slots():
    parameters = CkksParameters()
    assert parameters.slots == 4096
    # Two polynomials of 8192 words for each of three primes; 140 bits of each used.
    assert parameters.ciphertext_bytes == 2 * 8192 * 3 * 8
    assert parameters.packed_bytes == 2 * 8192 * 140 // 8
    mask = np.zeros(10_000, bool)
    none = overhead({"w": mask})
    assert none.gathered == none.scattered == 0
    assert none.gathered_bytes == none.scattered_bytes == none.plain_bytes == 40_000
    assert none.full_bytes == 3 * parameters.ciphertext_bytes
    mask[[0, 5000, 9999]] = True  # one in each block of 4096
    found = overhead({"a": mask[:3000], "b": mask[3000:].reshape(7, 1000)})
    assert (found.num_encrypted, found.num_total) == (3, 10_000)
    assert (found.gathered, found.scattered) == (1, 3)
    assert found.slots_used == 3 / 4096
    assert found.gathered_bytes == parameters.ciphertext_bytes + 9997 * 4 + 1250
    assert found.scattered_bytes == 3 * parameters.ciphertext_bytes + 1
    mask[:] = False
    mask[:4096] = True
    dense = overhead(mask)
    assert dense.gathered == dense.scattered == 1 and dense.slots_used == 1
    mask[4096] = True
    assert overhead(mask).gathered == 2
    assert overhead(np.ones(10_000, bool)).gathered == 3


def test_parts_add_up_to_the_distances_that_attacks_minimise():
    other = jax.jit(gradient(loss))(KEY, PARAMS, BATCH._replace(inputs=-BATCH.inputs))
    for name, match in (("l2", matching.squared()), ("cosine", matching.cosine())):
        parts = distance_parts(other, UPDATE, distance=name)
        assert flat(parts).min() >= 0
        np.testing.assert_allclose(
            flat(parts).sum(), float(match(other, UPDATE)), rtol=1e-5
        )


def test_shares_near_the_truth_are_those_of_the_sensitivity_far_from_it_not():
    release = gradient(loss)
    sensitivity = flat(score("input_sensitivity", num_directions=4000)) ** 2
    sensitivity /= sensitivity.sum()
    off = []
    for near in (1e-3, None):
        shares = jax.jit(
            lambda near=near: distance_shares(
                KEY, release, PARAMS, BATCH, near=near, num_guesses=500
            )
        )()
        np.testing.assert_allclose(flat(shares).sum(), 1, rtol=1e-4)
        off.append(np.abs(flat(shares) - sensitivity).sum())
        mask = encryption_mask(KEY, shares, 0.3)
        np.testing.assert_allclose(
            removed(shares, mask), flat(shares)[flat(mask)].sum(), rtol=1e-5
        )
        full = removed(shares, jax.tree.map(lambda x: jnp.ones(x.shape, bool), shares))
        assert float(full) == pytest.approx(1, rel=1e-4)
    assert off[0] < 0.15 < 0.3 < off[1], off


BAD = {
    "ratio": (lambda: taken(RANKED["coordinate"], 1.5), "ratio is 1.5; expected a"),
    "granularity": (
        lambda: positions(KEY, SCORES, granularity="row"),
        "granularity is 'row'; expected one of coordinate",
    ),
    "metric": (lambda: metric("size", TARGET), "metric is 'size'; expected one of"),
    "option": (
        lambda: metric("magnitude", TARGET, power=2),
        "option 'power' is unknown to metric 'magnitude'",
    ),
    "directions": (
        lambda: metric("input_sensitivity", TARGET, num_directions=0),
        "num_directions is 0",
    ),
    "exposed": (
        lambda: metric("product_exposed", TARGET, exposed={})(
            KEY, PARAMS, BATCH, PARAMS
        ),
        "exposed does not have the structure",
    ),
    "near": (
        lambda: distance_shares(KEY, gradient(loss), PARAMS, BATCH, near=0.0),
        "near is 0.0; expected None or more",
    ),
    "distance": (
        lambda: distance_parts(PARAMS, PARAMS, distance="l1"),
        "distance is 'l1'; expected one of l2, cosine",
    ),
    "mask of floats": (lambda: overhead(PARAMS), "mask is float32; expected bools"),
    "no mask": (lambda: overhead({}), "mask is empty; expected bools"),
    "degree": (
        lambda: overhead(np.ones(3, bool), parameters=CkksParameters(1000)),
        "poly_modulus is 1000; expected a power of two",
    ),
    "primes": (
        lambda: overhead(np.ones(3, bool), parameters=CkksParameters(8192, (60, 80))),
        r"coefficient_bits is \(60, 80\)",
    ),
    "release's ratio": (
        lambda: encryption(gradient(loss), TARGET, ratio=-0.1),
        "ratio is -0.1; expected a number",
    ),
    "release's mask": (
        lambda: encryption(gradient(loss), TARGET, mask=PARAMS),
        "mask is float32; expected bools like the update",
    ),
    "mask of another model": (
        lambda: encryption(lambda *_: UPDATE, TARGET, mask={"a": np.ones(2, bool)})(
            KEY, PARAMS, BATCH
        ),
        "mask does not have the structure and shapes",
    ),
    "options of a function": (
        lambda: encryption(
            gradient(loss),
            TARGET,
            metric=METRICS["random"].build(TARGET),
            options={"power": 2},
        ),
        "options is {'power': 2} for a metric that is a function",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named_in_one_line(case):
    call, words = BAD[case]
    with pytest.raises(InputError, match=f"^{words}[^\n]*$"):
        call()
