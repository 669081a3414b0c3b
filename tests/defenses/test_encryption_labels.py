"""Labels from an update of which a part is encrypted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encrypted_updates import SEND, SPEC, draw, hide, largest

from jaxinv.attacks.labels import LABEL_RULES, label_rule, masked_rows
from jaxinv.attacks.labels.head import completed
from jaxinv.client import simulate
from jaxinv.errors import KnowledgeError
from jaxinv.layers import find_head
from jaxinv.target import Batch

pytestmark = pytest.mark.usefixtures("compiled_quickly")

KEY = jax.random.key(0)


def test_a_hidden_entry_of_a_row_follows_from_the_others():
    values = jnp.array([[1.0, -3.0, 2.0], [4.0, -1.0, -3.0], [1.0, 1.0, -2.0]])
    shown = jnp.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    found = completed(jnp.where(shown, values, 0), shown)
    np.testing.assert_allclose(found, [[1, -3, 2], [0.5, -1, 0.5], [0, 0, 0]])


@pytest.mark.parametrize("rule", LABEL_RULES)
def test_labels_are_read_unless_the_whole_row_is_hidden(planted_image, rule):
    target, params, _ = planted_image
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


def test_where_the_mask_is_gives_labels_away(planted_image):
    target, params, _ = planted_image
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
