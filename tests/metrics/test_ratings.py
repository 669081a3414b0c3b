"""Metrics of ratings against loops and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinv import metrics


def test_only_rated_items_count():
    truth, guess = jnp.array([1.0, 0.5, 0.2]), jnp.array([0.5, 0.5, 0.9])
    rated = jnp.array([1.0, 1.0, 0.0])
    assert metrics.rating_mae(truth, guess, rated) == 0.25
    assert metrics.exact_ratings(truth, guess, rated) == 0.5


ROWS = st.tuples(st.integers(0, 1), st.integers(0, 4))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4)), min_size=8, max_size=8)
)
def test_auc_counts_pairs(rows):
    truth = np.array([t for t, _ in rows], np.float32)
    guess = np.array([g for _, g in rows], np.float32)
    rated = np.array([1] * 7 + [0], np.float32)
    wins = [
        1.0 if guess[i] > guess[j] else 0.5 if guess[i] == guess[j] else 0.0
        for i in range(7)
        for j in range(7)
        if truth[i] == 1 and truth[j] == 0
    ]
    found = jax.jit(metrics.interaction_auc)(truth, guess, rated)
    if wins:
        np.testing.assert_allclose(found, np.mean(wins), rtol=1e-6)
    else:
        assert np.isnan(found)


def test_f1_by_hand():
    truth, guess = jnp.array([1.0, 1, 0, 0]), jnp.array([0.9, 0.1, 0.8, 0.2])
    assert metrics.interaction_f1(truth, guess, jnp.ones(4)) == 0.5
    assert metrics.interaction_f1(jnp.zeros(4), jnp.zeros(4), jnp.ones(4)) == 0


def test_the_sign_of_an_embedding_is_free():
    truth = jnp.array([[3.0, 4.0]])
    assert metrics.embedding_error(truth, -truth) == 0
    np.testing.assert_allclose(metrics.embedding_error(truth, 2 * truth), 1)
