"""Selective encryption seen by attackers: closed forms, labels, matching, forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv import metrics
from jaxinv.attacks.base import Status, iterate
from jaxinv.attacks.dlg import dlg
from jaxinv.attacks.encrypted import FORMS, read_as, read_pixels
from jaxinv.attacks.labels import LABEL_RULES, label_rule, masked_rows
from jaxinv.attacks.labels.head import completed
from jaxinv.attacks.linear_layer import linear_layer
from jaxinv.attacks.rgap import rgap
from jaxinv.client import Client, simulate
from jaxinv.defenses.encryption import encryption
from jaxinv.errors import InputError, KnowledgeError
from jaxinv.fedavg import fedavg
from jaxinv.layers import Dense, find_head
from jaxinv.models import build
from jaxinv.observation import mean_gradient, observe
from jaxinv.release import gradient
from jaxinv.rounds import observe_rounds
from jaxinv.run import Runner
from jaxinv.target import Batch, ChainLayer, Spec, cross_entropy, from_function

pytestmark = pytest.mark.usefixtures("compiled_quickly")

KEY = jax.random.key(0)
SPEC = Spec((4, 4, 1), 3)
SEEN = ("labels", "visible")


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.fixture(scope="module")
def planted():
    target = build("mlp", SPEC, widths=(8,))
    pixels = np.random.default_rng(0).uniform(size=(1, 4, 4, 1)).astype(np.float32)
    return target, jax.jit(target.init)(KEY), Batch(jnp.asarray(pixels), jnp.array([1]))


# Compiled once; op by op a gradient takes seconds.
SEND = jax.jit(gradient(build("mlp", SPEC, widths=(8,)).loss))


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_no_ratio_is_no_defence_and_the_whole_leaves_nothing(planted):
    target, params, batch = planted
    release = gradient(target.loss)
    plain = SEND(KEY, params, batch)
    for ratio, share in ((0.0, 0.0), (1.0, 1.0), (0.25, 0.25)):
        defended = encryption(release, target, ratio=ratio)
        update, visible = jax.jit(defended.masked)(KEY, params, batch)
        hidden = ~flat(visible)
        assert hidden.sum() == round(share * hidden.size)
        np.testing.assert_allclose(
            flat(update), np.where(hidden, 0, flat(plain)), rtol=1e-5, atol=1e-7
        )
        sizes = np.abs(flat(plain))
        assert sizes[hidden].min(initial=9) >= sizes[~hidden].max(initial=0)
    np.testing.assert_array_equal(
        flat(jax.jit(defended)(KEY, params, batch)), flat(update)
    )
    assert encryption(release, target).local is None
    trainer = fedavg(target.loss, 0.1, local_steps=2)
    assert encryption(trainer, target).local is trainer.local


def test_a_given_mask_is_every_releases(planted):
    target, params, batch = planted
    mask = jax.tree.map(lambda leaf: np.asarray(leaf) > 0, params)
    defended = encryption(gradient(target.loss), target, mask=mask)
    _, visible = jax.jit(defended.masked)(KEY, params, batch)
    np.testing.assert_array_equal(~flat(visible), flat(mask))


def test_a_client_says_what_is_visible_where_that_is_granted(planted):
    target, params, batch = planted
    defended = encryption(SEND, target, ratio=0.3)
    _, visible = defended.masked(KEY, params, batch)
    compiled = Client(jax.jit(defended), None, jax.jit(defended.masked))
    for release in (defended, compiled):
        seen = simulate(KEY, target, params, batch, release=release, grant=SEEN)
        np.testing.assert_array_equal(flat(seen.known.visible), flat(visible))
        assert seen.known.granted() == SEEN
    blind = simulate(KEY, target, params, batch, release=defended)
    assert blind.known.visible is None
    np.testing.assert_array_equal(flat(blind.update), flat(seen.update))

    def thinned(key, params, batch):  # nothing says what it leaves out
        return jax.tree.map(
            lambda leaf: jnp.where(leaf > 0, leaf, 0),
            SEND(key, params, batch),
        )

    seen = simulate(KEY, target, params, batch, release=thinned, grant=SEEN)
    np.testing.assert_array_equal(flat(seen.known.visible), flat(seen.update) != 0)


def hide(seen, mask, value=jnp.nan):
    """The observation with a mask (True = encrypted) and anything there."""
    visible = jax.tree.map(lambda m: ~jnp.asarray(m)[None], mask)
    update = jax.tree.map(
        lambda leaf, v: jnp.where(v, leaf, value), seen.update, visible
    )
    known = dataclasses.replace(seen.known, visible=visible)
    return dataclasses.replace(seen, update=update, known=known)


def test_one_plain_unit_of_the_first_layer_gives_the_input_away(planted):
    target, params, batch = planted
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
    # A single number of the column hides the unit, and the layer the input.
    for changed in ("kernel", "bias"):
        less = jax.tree.map(np.copy, mask)
        less["linear0"][changed][..., unit].flat[0] = True
        less["linear0"][changed][(0, unit) if changed == "kernel" else unit] = True
        lost = found(KEY, hide(seen, less))
        assert lost.status == Status.GAVE_UP and not np.any(lost.batch.inputs)
    # A tenth of the largest numbers of all, and one plain unit that has a gradient.
    defended = encryption(SEND, target, ratio=0.1)
    few = simulate(KEY, target, params, batch, release=defended, grant=SEEN)
    np.testing.assert_allclose(found(KEY, few).batch.inputs, batch.inputs, atol=1e-4)
    # Pixels in different units do as well, of which none is plain.
    each = np.random.default_rng(0).permuted(np.eye(16, 8, dtype=bool), axis=1)
    each[:, unit] |= ~each.any(1)
    first = jax.tree.map(lambda leaf: leaf[0], seen.update)["linear0"]
    plain = Dense(jnp.asarray(each), jnp.ones(8, bool))
    values = Dense(jnp.where(each, first["kernel"], jnp.nan), first["bias"])
    pixels, known = read_pixels(values, plain)
    alive = (each & np.asarray(first["bias"] != 0)).any(1)
    np.testing.assert_array_equal(known, alive)
    np.testing.assert_allclose(
        pixels, np.where(alive, np.ravel(batch.inputs), 0), atol=1e-4
    )
    assert alive.any() and not each.all(0).any()
    whole = jax.tree.map(np.zeros_like, mask)
    whole["linear0"] = jax.tree.map(np.ones_like, whole["linear0"])
    assert found(KEY, hide(seen, whole)).status == Status.GAVE_UP


def test_zeros_for_hidden_numbers_deceive_who_does_not_know_of_them(planted):
    target, params, batch = planted
    mask = jax.tree.map(lambda leaf: np.zeros(leaf.shape, bool), params)
    mask["linear0"]["kernel"][:3] = True  # three pixels of every unit
    seen = hide(simulate(KEY, target, params, batch, release=SEND), mask)
    attack = jax.jit(linear_layer(target))
    assert attack(KEY, seen).status == Status.GAVE_UP
    found = attack(KEY, read_as(seen, "zero"))
    assert found.status == Status.OK
    off = np.ravel(np.abs(found.batch.inputs - batch.inputs))
    assert off[3:].max() < 1e-4 < 1e-2 < off[:3].max()


def test_rgap_gives_up_where_anything_of_the_chain_is_hidden(planted):
    _, _, batch = planted
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


def test_what_reads_the_whole_update_is_refused_a_part(planted):
    target, params, batch = planted
    defended = encryption(SEND, target)
    seen = simulate(KEY, target, params, batch, release=defended, grant=SEEN)
    with pytest.raises(InputError, match=r"^visible hides a part .* grain reads all"):
        mean_gradient(seen, who="grain")
    update = mean_gradient(seen, who="this test", partial=True)
    assert np.mean(flat(update) == 0) >= 0.1


def test_a_hidden_entry_of_a_row_follows_from_the_others():
    values = jnp.array([[1.0, -3.0, 2.0], [4.0, -1.0, -3.0], [1.0, 1.0, -2.0]])
    shown = jnp.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    found = completed(jnp.where(shown, values, 0), shown)
    np.testing.assert_allclose(found, [[1, -3, 2], [0.5, -1, 0.5], [0, 0, 0]])


@pytest.mark.parametrize("rule", LABEL_RULES)
def test_labels_are_read_unless_the_whole_row_is_hidden(planted, rule):
    target, params, _ = planted
    read = jax.jit(label_rule(rule, target))
    right = []
    for label in range(3):
        batch = Batch(jnp.abs(draw(label, 1, 4, 4, 1)), jnp.array([label]))
        seen = simulate(KEY, target, params, batch, release=SEND)
        mask = jax.tree.map(lambda leaf: np.zeros(leaf.shape[1:], bool), seen.update)
        np.testing.assert_array_equal(read(KEY, hide(seen, mask)), read(KEY, seen))
        # The true class's numbers alone, the largest ones: they follow from the rest.
        head = find_head(mask, SPEC)
        head.kernel[:, label], head.bias[label] = True, True
        right.append(int(read(KEY, hide(seen, mask))[0]) == label)
        # Nothing of the head: the guess is the same whatever the label.
        head.kernel[:], head.bias[:] = True, True
        blind = read(KEY, hide(seen, mask))
        other = hide(
            simulate(KEY, target, params, batch._replace(labels=batch.labels * 0)), mask
        )
        np.testing.assert_array_equal(blind, read(KEY, other))
    assert all(right)


def test_where_the_mask_is_gives_labels_away(planted):
    target, params, _ = planted
    rule = jax.jit(masked_rows())
    for label in range(3):
        batch = Batch(jnp.abs(draw(label, 1, 4, 4, 1)), jnp.array([label]))
        seen = simulate(KEY, target, params, batch, release=SEND)
        hidden = hide(seen, largest(seen.update, 0.1))
        assert rule(KEY, hidden) == label
        # No number of the update is read.
        emptied = jax.tree.map(jnp.zeros_like, hidden.update)
        assert rule(KEY, dataclasses.replace(hidden, update=emptied)) == label
    whole = jax.tree.map(lambda leaf: np.ones(leaf.shape[1:], bool), seen.update)
    drawn = [int(rule(k, hide(seen, whole))[0]) for k in jax.random.split(KEY, 12)]
    assert len(set(drawn)) == 3
    with pytest.raises(KnowledgeError, match="visible is needed and not granted"):
        masked_rows()(KEY, seen)


def largest(update, ratio):
    sizes = jax.tree.map(lambda leaf: np.abs(leaf[0]), update)
    edge = np.quantile(flat(sizes), 1 - ratio)
    return jax.tree.map(lambda leaf: leaf > edge, sizes)


def test_the_forms_an_update_is_read_in(planted):
    target, params, batch = planted
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


def smooth(params, batch):
    x = jnp.tanh(batch.inputs.reshape(len(batch.inputs), -1) @ params["a"]["kernel"])
    logits = (x + params["a"]["bias"]) @ params["b"]["kernel"] + params["b"]["bias"]
    return cross_entropy(logits, batch.labels)


def test_a_runner_in_float64_and_several_rounds_carry_what_is_visible():
    target = from_function(smooth, SPEC)
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
    target, release, num = from_function(smooth, SPEC), gradient(smooth), 16
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
