"""Searches on an update of which a part is encrypted, and the forms it is read in."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encrypted_updates import SEND, SPEC, draw, flat, hide, largest, loss

from jaxinv import metrics
from jaxinv.attacks.base import Status, iterate
from jaxinv.attacks.dlg import dlg
from jaxinv.attacks.encrypted import FORMS, read_as
from jaxinv.client import simulate
from jaxinv.defenses.encryption import encryption
from jaxinv.errors import InputError, KnowledgeError
from jaxinv.observation import observe
from jaxinv.release import gradient
from jaxinv.rounds import observe_rounds
from jaxinv.run import Runner
from jaxinv.target import Batch, from_function

pytestmark = pytest.mark.usefixtures("compiled_quickly")

KEY = jax.random.key(0)


def test_the_forms_an_update_is_read_in(planted_image):
    target, params, batch = planted_image
    plain = simulate(KEY, target, params, batch, release=SEND)
    mask = largest(plain.update, 0.3)
    seen = hide(plain, mask)
    earlier = jax.tree.map(lambda leaf: leaf + 1, plain.update)
    read = {
        form: read_as(seen, form, previous=earlier if form == "previous" else None)
        for form in FORMS
    }
    assert read["masked"] is seen
    hidden, values = flat(mask), flat(plain.update)
    filling = {"zero": np.zeros_like(values), "previous": values + 1}
    filling["mean"] = flat(
        jax.tree.map(
            lambda leaf, m: np.full(m.shape, leaf[0][~m].mean() if (~m).any() else 0),
            plain.update,
            mask,
        )
    )
    for form, there in filling.items():
        assert read[form].known.visible is None
        np.testing.assert_allclose(
            flat(read[form].update), np.where(hidden, there, values), rtol=1e-5
        )
    for form, previous, words in (
        ("half", None, "form is 'half'; expected one of masked, zero"),
        ("previous", None, "previous is None and form is 'previous'"),
        ("zero", earlier, "previous is given and form is 'zero'"),
        ("previous", mask, "previous does not have the structure and shapes"),
    ):
        with pytest.raises(InputError, match=f"^{words}[^\n]*$"):
            read_as(seen, form, previous=previous)
    with pytest.raises(KnowledgeError, match="visible is needed and not granted"):
        read_as(plain, "zero")


def test_a_runner_in_float64_and_several_rounds_carry_what_is_visible():
    target = from_function(loss, SPEC)
    params = {
        "a": {"kernel": draw(1, 16, 3), "bias": draw(2, 3)},
        "b": {"kernel": draw(3, 3, 3), "bias": draw(4, 3)},
    }
    visible = jax.tree.map(lambda leaf: np.asarray(leaf) > 0, params)
    update = jax.tree.map(lambda leaf, v: np.where(v, leaf, np.nan), params, visible)
    later = jax.tree.map(lambda leaf: 2 * leaf, params)
    seen = observe_rounds(
        [params, later],
        [update, jax.tree.map(lambda leaf: 3 * leaf, update)],
        num_examples=1,
        spec=SPEC,
        labels=[0],
        visible=visible,
    )
    assert seen.rounds == 2 and np.isfinite(flat(seen.update)).all()
    np.testing.assert_array_equal(flat(seen.shown(1)), flat(visible))
    runner = Runner(dlg(target, num_steps=3), num_restarts=2, precision="float64")
    found = runner(KEY, seen).found
    assert found.status == Status.OK and found.batch.inputs.dtype == np.float64


def test_magnitude_holds_a_search_up_longer_than_chance():
    """Point 5 of the evaluation plan: directional, the mean over 16 images."""
    target, release, num = from_function(loss, SPEC), gradient(loss), 16
    params = {
        "a": {"kernel": 0.5 * draw(1, 16, 24), "bias": draw(2, 24)},
        "b": {"kernel": draw(3, 24, 3), "bias": draw(4, 3)},
    }
    pixels = np.random.default_rng(5).uniform(size=(num, 1, 4, 4, 1))
    inputs, labels = jnp.asarray(pixels, jnp.float32), jnp.arange(num) % 3
    like = observe(
        params,
        params,
        num_examples=1,
        spec=SPEC,
        labels=[0],
        visible=jax.tree.map(lambda leaf: leaf > 0, params),
    )
    attack = iterate(dlg(target, num_steps=60, memory_size=10))

    # One program for all masks: they are data.
    @jax.jit
    def found(keys, labels, sent):
        def one(key, label, sent):
            update, visible = jax.tree.map(lambda leaf: leaf[None], sent)
            known = dataclasses.replace(like.known, labels=label[None], visible=visible)
            seen = dataclasses.replace(like, update=update, known=known)
            return attack(key, seen).batch.inputs

        return jax.vmap(one)(keys, labels, sent)

    @jax.jit
    def sent(keys):
        def one(key, inputs, label):
            batch = Batch(inputs, label[None])
            return {
                name: encryption(release, target, metric=name, ratio=0.3).masked(
                    key, params, batch
                )
                for name in ("random", "magnitude")
            }

        return jax.vmap(one)(keys, inputs, labels)

    keys, psnr = jax.random.split(KEY, num), {}
    for name, masked in sent(keys).items():
        recovered = found(keys, labels, masked)
        psnr[name] = float(metrics.psnr(inputs[:, 0], recovered[:, 0]).mean())
    assert psnr["magnitude"] <= psnr["random"] - 3, psnr
