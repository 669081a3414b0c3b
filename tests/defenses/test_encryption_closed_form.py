"""Closed forms on an update of which a part is encrypted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encrypted_updates import SEEN, SEND, SPEC, draw, flat, hide

from jaxinv.attacks.base import Status
from jaxinv.attacks.encrypted import read_as, read_pixels
from jaxinv.attacks.linear_layer import linear_layer
from jaxinv.attacks.rgap import rgap
from jaxinv.client import simulate
from jaxinv.defenses.encryption import encryption
from jaxinv.errors import InputError
from jaxinv.layers import Dense
from jaxinv.observation import mean_gradient
from jaxinv.target import Batch, ChainLayer, cross_entropy, from_function

pytestmark = pytest.mark.usefixtures("compiled_quickly")

KEY = jax.random.key(0)


def test_one_plain_unit_of_the_first_layer_gives_the_input_away(planted_image):
    target, params, batch = planted_image
    seen = simulate(KEY, target, params, batch, release=SEND)
    found = jax.jit(linear_layer(target))
    column = seen.update["linear0"]["bias"][0]
    unit = int(jnp.argmin(jnp.where(column != 0, jnp.abs(column), jnp.inf)))
    mask = jax.tree.map(lambda leaf: np.ones(leaf.shape[1:], bool), seen.update)
    mask["linear0"]["kernel"][:, unit] = False
    mask["linear0"]["bias"][unit] = False
    read = found(KEY, hide(seen, mask))
    assert read.status == Status.OK and read.stats["support"][0] == 1
    np.testing.assert_allclose(read.batch.inputs, batch.inputs, atol=1e-4)
    assert float(read.score) < 1e-6
    assert read.stats["known"] == 1 and read.stats["residual"] < 1e-4
    # A number of the column hides a number of the input, and the bias all of them.
    less = jax.tree.map(np.copy, mask)
    less["linear0"]["kernel"][0, unit] = True
    partly = found(KEY, hide(seen, less))
    assert partly.status == Status.GAVE_UP
    assert partly.stats["known"] == pytest.approx(15 / 16)
    truth = np.ravel(batch.inputs)
    np.testing.assert_allclose(np.ravel(partly.batch.inputs)[1:], truth[1:], atol=1e-4)
    assert np.ravel(partly.batch.inputs)[0] == pytest.approx(truth[1:].mean(), abs=1e-4)
    less["linear0"]["bias"][unit] = True
    lost = found(KEY, hide(seen, less))
    assert lost.status == Status.GAVE_UP and not np.any(lost.batch.inputs)
    whole = jax.tree.map(np.zeros_like, mask)
    whole["linear0"] = jax.tree.map(np.ones_like, whole["linear0"])
    assert found(KEY, hide(seen, whole)).status == Status.GAVE_UP
    # A tenth of the largest numbers of all, and one plain unit that has a gradient.
    defended = encryption(SEND, target, ratio=0.1)
    few = simulate(KEY, target, params, batch, release=defended, grant=SEEN)
    np.testing.assert_allclose(found(KEY, few).batch.inputs, batch.inputs, atol=1e-4)


def test_numbers_in_different_units_give_the_input_away(planted_image):
    target, params, batch = planted_image
    seen = simulate(KEY, target, params, batch, release=SEND)
    first = jax.tree.map(lambda leaf: leaf[0], seen.update)["linear0"]
    unit = int(jnp.argmax(jnp.abs(first["bias"])))
    each = np.random.default_rng(0).permuted(np.eye(16, 8, dtype=bool), axis=1)
    each[:, unit] |= ~each.any(1)
    plain = Dense(jnp.asarray(each), jnp.ones(8, bool))
    values = Dense(jnp.where(each, first["kernel"], jnp.nan), first["bias"])
    pixels, known = read_pixels(values, plain)
    alive = (each & np.asarray(first["bias"] != 0)).any(1)
    np.testing.assert_array_equal(known, alive)
    np.testing.assert_allclose(
        pixels, np.where(alive, np.ravel(batch.inputs), 0), atol=1e-4
    )
    assert alive.any() and not each.all(0).any()
    # The attack reads them so, and nothing of another client's numbers.
    mask = jax.tree.map(lambda leaf: np.zeros(leaf.shape[1:], bool), seen.update)
    mask["linear0"]["kernel"] = ~each
    attack = jax.jit(linear_layer(target))
    found = attack(KEY, hide(seen, mask))
    assert found.stats["known"] == pytest.approx(alive.mean())
    off = np.abs(np.ravel(found.batch.inputs - batch.inputs))
    assert off[alive].max() < 1e-4
    wrong = jax.tree.map(lambda leaf: draw(5, *leaf.shape), seen.update)
    lost = attack(KEY, hide(dataclasses.replace(seen, update=wrong), mask))
    assert lost.status == Status.GAVE_UP and float(lost.score) > 0.5
    assert lost.stats["known"] < 1


def test_of_a_larger_batch_whole_units_count(planted_image):
    target, params, _ = planted_image
    two = Batch(jax.random.uniform(KEY, (2, 4, 4, 1)), jnp.array([0, 2]))
    seen = simulate(KEY, target, params, two, release=SEND)
    mask = jax.tree.map(lambda leaf: np.zeros(leaf.shape[1:], bool), seen.update)
    attack = jax.jit(linear_layer(target, min_support=1))
    whole = attack(KEY, hide(seen, mask))
    mask["linear0"]["kernel"][0] = True  # a number of every unit
    none = attack(KEY, hide(seen, mask))
    assert none.status == Status.GAVE_UP and not np.any(none.stats["support"])
    assert np.all(none.stats["known"] == 0) and np.any(whole.stats["support"])


def test_zeros_for_hidden_numbers_deceive_who_does_not_know_of_them(planted_image):
    target, params, batch = planted_image
    mask = jax.tree.map(lambda leaf: np.zeros(leaf.shape, bool), params)
    mask["linear0"]["kernel"][:3] = True  # three pixels of every unit
    seen = hide(simulate(KEY, target, params, batch, release=SEND), mask)
    attack = jax.jit(linear_layer(target))
    assert attack(KEY, seen).status == Status.GAVE_UP
    found = attack(KEY, read_as(seen, "zero"))
    assert found.status == Status.OK
    off = np.ravel(np.abs(found.batch.inputs - batch.inputs))
    assert off[3:].max() < 1e-4 < 1e-2 < off[:3].max()


def test_rgap_gives_up_where_anything_of_the_chain_is_hidden(planted_image):
    _, _, batch = planted_image
    params = {"out": {"kernel": draw(1, 16, 3), "bias": draw(2, 3)}}

    def loss(params, batch):
        logits = batch.inputs.reshape(1, -1) @ params["out"]["kernel"]
        return cross_entropy(logits + params["out"]["bias"], batch.labels)

    target = from_function(loss, SPEC)._replace(
        chain=(ChainLayer(("out",), "identity"),)
    )
    seen = simulate(KEY, target, params, batch)
    attack = jax.jit(rgap(target))
    mask = jax.tree.map(lambda leaf: np.zeros(leaf.shape, bool), params)
    found = attack(KEY, hide(seen, mask))
    assert found.status == Status.OK
    np.testing.assert_allclose(found.batch.inputs, batch.inputs, atol=1e-3)
    mask["out"]["kernel"][3, 1] = True
    found = attack(KEY, hide(seen, mask))
    assert found.status == Status.GAVE_UP and found.score == np.inf


def test_what_reads_the_whole_update_is_refused_a_part(planted_image):
    target, params, batch = planted_image
    defended = encryption(SEND, target)
    seen = simulate(KEY, target, params, batch, release=defended, grant=SEEN)
    with pytest.raises(InputError, match=r"^visible hides a part .* grain reads all"):
        mean_gradient(seen, who="grain")
    update = mean_gradient(seen, who="this test", partial=True)
    assert np.mean(flat(update) == 0) >= 0.1
