"""Selective encryption: the size, order and cost of masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encrypted_updates import PARAMS, TOTAL, flat
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinv.defenses.encryption import (
    GRANULARITIES,
    CkksParameters,
    averaged,
    encryption_mask,
    overhead,
    positions,
    taken,
)

pytestmark = pytest.mark.usefixtures("compiled_quickly")

KEY = jax.random.key(0)
# Many ties: multiples of a quarter.
SCORES = jax.tree.map(lambda leaf: jnp.round(4 * jnp.abs(leaf)) / 4, PARAMS)
RANKED = {g: positions(KEY, SCORES, granularity=g) for g in GRANULARITIES}
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
