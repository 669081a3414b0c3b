"""Selective encryption: significances, and the distance that a mask removes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encrypted_updates import BATCH, PARAMS, TARGET, TOTAL, flat, logits_of, loss

from jaxinv import matching
from jaxinv.defenses.encryption import (
    distance_parts,
    distance_shares,
    encryption_mask,
    metric,
    removed,
)
from jaxinv.release import gradient
from jaxinv.target import Batch

pytestmark = pytest.mark.usefixtures("compiled_quickly")

KEY = jax.random.key(0)
UPDATE = jax.jit(gradient(loss))(KEY, PARAMS, BATCH)


def score(name, **options):
    return jax.jit(metric(name, TARGET, **options))(KEY, PARAMS, BATCH, UPDATE)


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
