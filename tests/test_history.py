"""How many starts went on their way: quartiles, counts, and those that diverged."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_attacks import KEY, NUM_STEPS, SPEC, attack, loss, observation

from jaxinv import history, matching
from jaxinv.attacks.base import Status, closed_form, iterate
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.halving import Halving
from jaxinv.history import History
from jaxinv.objective import objective
from jaxinv.release import gradient
from jaxinv.run import Runner
from jaxinv.space import pixels

NUM = 5


@pytest.fixture(scope="module")
def seen():
    return observation()


@pytest.fixture(scope="module")
def alone(seen):
    """`[starts, steps]` scores, each start in a run of its own."""
    one = jax.jit(iterate(attack(), num_records=NUM_STEPS))
    keys = jax.random.split(KEY, NUM)
    return np.stack([one(key, seen).stats["trace"]["score"] for key in keys])


def quartiles(scores):
    return np.quantile(scores, (0.25, 0.5, 0.75), axis=0).T


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_quartiles_are_those_of_starts_that_ran_alone(seen, alone, chunk):
    run = Runner(attack(), num_restarts=NUM, chunk=chunk, num_records=4)(KEY, seen)
    np.testing.assert_array_equal(run.steps, [5, 10, 15, 17])
    expected = quartiles(alone[:, run.steps - 1])
    np.testing.assert_allclose(run.spread.quartiles, expected, rtol=1e-4)
    np.testing.assert_array_equal(run.spread.starts, [NUM] * 4)
    np.testing.assert_array_equal(run.spread.diverged, [0] * 4)
    # The last of them is that of the scores the run ends with.
    last = quartiles(run.found.stats["scores"])
    np.testing.assert_allclose(run.spread.quartiles[-1], last, rtol=1e-6)


def test_after_a_rung_they_are_of_those_that_go_on(seen, alone):
    rule = Halving((0.5,), 0.4)
    run = Runner(attack(), num_restarts=NUM, chunk=2, num_records=4, halving=rule)(
        KEY, seen
    )
    assert run.steps.tolist() == [5, 8, 10, 15, 17]
    assert run.spread.starts.tolist() == [5, 5, 2, 2, 2]
    left = np.flatnonzero(run.found.stats["statuses"] == Status.OK)
    for row, step in enumerate(run.steps):
        scores = alone[:, step - 1] if step <= 8 else alone[left, step - 1]
        expected = quartiles(scores)
        np.testing.assert_allclose(run.spread.quartiles[row], expected, rtol=1e-4)


def test_an_interrupt_leaves_fewer_starts_at_later_steps(seen, alone):
    def stop(steps, score):
        # All of the first batch, and half of the second.
        if steps >= 9:
            raise KeyboardInterrupt

    runner = Runner(attack(), num_restarts=NUM, chunk=2, num_records=2)
    run = runner(KEY, seen, stop)
    assert run.steps.tolist() == [9, 17] and run.spread.starts.tolist() == [4, 2]
    for row, (step, num) in enumerate(zip(run.steps, (4, 2), strict=True)):
        expected = quartiles(alone[:num, step - 1])
        np.testing.assert_allclose(run.spread.quartiles[row], expected, rtol=1e-4)


def lost_after(count):
    """Steps of no length that is a number, from the one after `count` on."""
    fn = objective(gradient(loss), matching.squared())
    optimizer = optax.sgd(lambda now: jnp.where(now >= count, jnp.nan, 0.05))
    return gradient_matching(fn, pixels(SPEC), optimizer, 8)


def test_starts_that_diverge_are_counted_from_then_on(seen):
    counts = np.int32([2, 5, 100, 100, 100])
    runner = Runner(
        lost_after, num_restarts=NUM, chunk=2, num_records=8, options={"count": counts}
    )
    run = runner(KEY, seen)
    steps = np.arange(1, 9)
    np.testing.assert_array_equal(run.steps, steps)
    # The step after the one that is no number is the first to see it.
    lost = steps[:, None] >= counts + 2
    np.testing.assert_array_equal(run.spread.diverged, lost.sum(1))
    assert run.spread.diverged.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    np.testing.assert_array_equal(run.spread.starts, [NUM] * 8)
    statuses = run.found.stats["statuses"]
    np.testing.assert_array_equal(statuses == Status.DIVERGED, lost[-1])
    ends = run.found.stats["scores"][~lost[-1]]
    np.testing.assert_allclose(run.spread.quartiles[-1], quartiles(ends), rtol=1e-6)


def test_where_all_diverged_there_is_no_quartile(seen):
    fn = objective(gradient(loss), matching.squared())

    def nan(key, observation, batch):
        total, terms = fn(key, observation, batch)
        return total * jnp.nan, terms

    lost = gradient_matching(nan, pixels(SPEC), optax.sgd(0.1), 4)
    run = Runner(lost, num_restarts=2, num_records=2)(KEY, seen)
    assert np.isnan(run.spread.quartiles).all() and run.spread.quartiles.shape == (2, 3)
    assert run.spread.diverged.tolist() == run.spread.starts.tolist() == [2, 2]


def test_a_closed_form_has_no_spread(seen):
    run = Runner(closed_form(iterate(attack(), 2)))(KEY, seen)
    assert run.spread.quartiles.shape == (0, 3) and run.spread.starts.size == 0


def test_very_many_starts_are_told_of_by_an_even_share(monkeypatch):
    monkeypatch.setattr(history, "ENTRIES", 20)
    scores = np.arange(30.0)[::-1]
    kept = History(30, [1, 2])
    for ids in np.split(np.arange(30), [7, 20]):
        kept.note(1, ids, scores[ids], ids == 29)
    spread = kept.spread()
    # Of 60 scores every third.
    np.testing.assert_allclose(spread.quartiles, [quartiles(scores[::3])])
    assert spread.starts.tolist() == [30] and spread.diverged.tolist() == [1]
    steps, best = kept.best()
    assert steps.tolist() == [1] and best.tolist() == [0.0]
