"""Spaces: where a search starts, what it may reach, and what it asks to be told."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv import space
from jaxinv.errors import InputError, KnowledgeError
from jaxinv.observation import observe
from jaxinv.space import PixelPoint
from jaxinv.target import Spec

SPEC = Spec((6, 5, 3), 4, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))
LABELS = [3, 0]
KEY = jax.random.key(0)


def observation(labels=None):
    tree = {"w": jnp.ones(2)}
    return observe(tree, tree, num_examples=2, spec=SPEC, labels=labels)


def always_one(key, observation):
    return jnp.ones(observation.num_examples, jnp.int32)


def test_projected_inputs_are_the_pixels_of_the_box():
    far = 100 * np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype(np.float32)
    z = space.pixels(SPEC).project(PixelPoint(jnp.asarray(far), None))
    pixels = far * np.array(SPEC.std) + np.array(SPEC.mean)
    np.testing.assert_allclose(
        SPEC.denormalise(z.inputs), np.clip(pixels, 0, 1), atol=1e-6
    )
    near = SPEC.normalise(jnp.asarray(np.clip(pixels, 0.01, 0.99), jnp.float32))
    np.testing.assert_array_equal(
        space.pixels(SPEC).project(PixelPoint(near, None)).inputs, near
    )
    free = space.pixels(SPEC, box=False).project(PixelPoint(jnp.asarray(far), None))
    np.testing.assert_array_equal(free.inputs, far)


# mode, labels granted, whether labels are searched for, labels that the loss gets.
MODES = [
    ("known", LABELS, False, LABELS),
    ("joint", None, True, None),
    ("joint", LABELS, True, None),
    ("known_or_joint", LABELS, False, LABELS),
    ("known_or_joint", None, True, None),
    (always_one, None, False, [1, 1]),
    (always_one, LABELS, False, [1, 1]),
    (space.known_or(always_one), LABELS, False, LABELS),
    (space.known_or(always_one), None, False, [1, 1]),
]


@pytest.mark.parametrize(("mode", "granted", "searched", "expected"), MODES)
def test_labels(mode, granted, searched, expected):
    where = space.pixels(SPEC, labels=mode, initial=space.zeros)
    z, given = where.init(KEY, observation(granted))
    batch = where.decode(z, given)
    assert z.inputs.shape == (2, *SPEC.shape)
    assert (z.label_logits is not None) == searched and (given is None) == searched
    np.testing.assert_array_equal(batch.inputs, z.inputs)
    if searched:
        logits = np.float64(z.label_logits)
        soft = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        assert batch.labels.shape == (2, SPEC.num_classes)
        np.testing.assert_allclose(batch.labels, soft, rtol=1e-5)
    else:
        assert jnp.issubdtype(batch.labels.dtype, jnp.integer)
        np.testing.assert_array_equal(batch.labels, expected)


def test_withheld_labels_are_refused_by_name():
    with pytest.raises(KnowledgeError) as caught:
        jax.eval_shape(space.pixels(SPEC).init, KEY, observation())
    message = r"labels is needed and not granted \(granted: nothing\); grant .*"
    assert re.fullmatch(message, str(caught.value))


def test_decode_is_differentiable_in_inputs_and_labels():
    where = space.pixels(SPEC, labels="joint")
    z, given = jax.jit(where.init)(KEY, observation())

    def loss(z):
        batch = where.decode(z, given)
        return jnp.sum(batch.inputs**2) + jnp.sum(batch.labels**2)

    slope = jax.jit(jax.grad(loss))(z)
    np.testing.assert_allclose(slope.inputs, 2 * z.inputs, rtol=1e-6)
    p = np.float64(where.decode(z, given).labels)
    by_hand = 2 * p * (p - (p**2).sum(1, keepdims=True))
    np.testing.assert_allclose(slope.label_logits, by_hand, atol=1e-6)


@pytest.mark.parametrize("initial", [space.normal, space.patterned(2)])
def test_starts_differ_by_key_alone(initial):
    where = space.pixels(SPEC, labels="joint", initial=initial)
    seen = observation()
    start = jax.jit(lambda key: where.init(key, seen)[0])
    one, same, other = start(KEY), start(KEY), start(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert jnp.abs(one.inputs - other.inputs).max() > 0.1
    assert jnp.abs(one.label_logits - other.label_logits).max() > 0.1


def test_the_starts_are_what_they_are_called():
    shape = (8, 16, 16, 3)
    draw = jax.jit(lambda key: (space.normal(key, shape), space.uniform(key, shape)))
    normal, uniform = map(np.asarray, draw(KEY))
    assert abs(normal.mean()) < 0.05 and abs(normal.std() - 1) < 0.05
    assert -1 <= uniform.min() < -0.99 and 0.99 < uniform.max() <= 1
    assert abs(uniform.std() - 3**-0.5) < 0.02
    assert not np.any(space.zeros(KEY, shape))


@pytest.mark.parametrize("width", [4, 7])
def test_patterned_repeats_one_tile(width):
    draw = jax.jit(lambda key: space.patterned(width)(key, (3, 6, 5, 2)))
    images = np.asarray(draw(KEY))
    assert images.shape == (3, 6, 5, 2)
    for n, i, j in np.ndindex(3, 6, 5):
        expected = images[0, i % width, j % width]
        np.testing.assert_array_equal(images[n, i, j], expected)
    tile = images[0, :width, :width]
    assert len(np.unique(tile)) == tile.size


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: space.pixels(SPEC, labels="gess"), "labels is 'gess'"),
        (lambda: space.patterned(0), "width is 0"),
        (lambda: space.patterned(2)(KEY, (2, 7)), r"shape is \(2, 7\)"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(InputError, match=f"^{message}[^\n]*expect[^\n]*$"):
        make()


def test_shuffled_keeps_the_labels_and_draws_their_order():
    def fixed(key, observation):
        return jnp.asarray([0, 0, 1, 2, 3], jnp.int32)

    rule = space.shuffled(fixed)
    keys = jax.random.split(KEY, 20)
    drawn = np.asarray(jax.vmap(lambda k: rule(k, observation()))(keys))
    np.testing.assert_array_equal(np.sort(drawn, 1), np.tile([0, 0, 1, 2, 3], (20, 1)))
    assert len(np.unique(drawn, axis=0)) > 10
    np.testing.assert_array_equal(rule(KEY, observation()), rule(KEY, observation()))
