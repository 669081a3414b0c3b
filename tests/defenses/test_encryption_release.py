"""Selective encryption as a client's release: what is sent and what is granted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encrypted_updates import SEEN, SEND, flat

from jaxinv.client import Client, simulate
from jaxinv.defenses.encryption import encryption
from jaxinv.fedavg import fedavg
from jaxinv.release import gradient

pytestmark = pytest.mark.usefixtures("compiled_quickly")

KEY = jax.random.key(0)


def test_no_ratio_is_no_defence_and_the_whole_leaves_nothing(planted_image):
    target, params, batch = planted_image
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


def test_a_given_mask_is_every_releases(planted_image):
    target, params, batch = planted_image
    mask = jax.tree.map(lambda leaf: np.asarray(leaf) > 0, params)
    defended = encryption(gradient(target.loss), target, mask=mask)
    _, visible = jax.jit(defended.masked)(KEY, params, batch)
    np.testing.assert_array_equal(~flat(visible), flat(mask))


def test_a_client_says_what_is_visible_where_that_is_granted(planted_image):
    target, params, batch = planted_image
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
