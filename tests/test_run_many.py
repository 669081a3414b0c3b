"""Many starts in one program: chunks, hyper-parameters of their own, halving."""

import jax
import numpy as np
import pytest
from small_attacks import KEY, NUM_STEPS, TRACED, attack, observation, swept

from jaxinv.attacks.base import Status, iterate, restarts
from jaxinv.errors import InputError
from jaxinv.halving import Halving
from jaxinv.run import Runner


@pytest.fixture(scope="module")
def seen():
    return observation()


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100, None])
def test_the_chunk_changes_nothing(seen, chunk):
    runner = Runner(attack(), num_restarts=5, chunk=chunk, num_records=3, keep=4)
    run, key = runner(KEY, seen), jax.random.key(0)
    whole = jax.jit(iterate(restarts(attack(), 5, keep=4)))(key, seen)
    assert 1 <= runner.chunk <= 5
    np.testing.assert_allclose(run.found.stats["scores"], whole.stats["scores"], 1e-4)
    kept, expected = run.found.stats["kept"], whole.stats["kept"]
    np.testing.assert_array_equal(kept.stats["start"], expected.stats["start"])
    np.testing.assert_allclose(kept.batch.inputs, expected.batch.inputs, atol=1e-4)
    np.testing.assert_array_equal(run.found.stats["statuses"], [Status.OK] * 5)
    assert run.restart_iterations == 5 * NUM_STEPS
    # The curve is that of the best start, whatever batch it was in.
    trace = np.asarray(whole.stats["trace"]["score"])
    np.testing.assert_allclose(run.scores, trace[run.steps - 1], rtol=1e-4)


def test_a_start_does_not_depend_on_how_many_there_are(seen):
    few, many = (
        Runner(attack(), num_restarts=n, chunk=2)(KEY, seen).found.stats["scores"]
        for n in (3, 7)
    )
    np.testing.assert_allclose(few, many[:3], rtol=1e-5)


def test_progress_is_the_mean_over_all_starts(seen):
    told = []
    Runner(attack(10), num_restarts=4, chunk=2, num_records=2)(
        KEY, seen, lambda steps, score: told.append((steps, score))
    )
    assert [steps for steps, _ in told] == [2, 5, 7, 10]
    scores = [score for _, score in told]
    assert scores == sorted(scores, reverse=True)


def test_every_start_has_its_own_hyper_parameters_in_one_program(seen):
    rates, weights = np.float32([0.01, 0.05, 0.2, 0.05]), np.float32([0, 0, 0.1, 0.5])
    grid = {"learning_rate": rates, "weight": weights}
    traced = []
    for num in (2, 4):
        before = len(TRACED)
        part = {name: values[:num] for name, values in grid.items()}
        run = Runner(swept, num_restarts=num, chunk=2, options=part)(KEY, seen)
        traced.append(len(TRACED) - before)
    assert traced[0] == traced[1]
    for i, (rate, weight) in enumerate(zip(rates, weights, strict=True)):
        alone = Runner(swept(rate, weight), num_restarts=4)(KEY, seen)
        expected = alone.found.stats["scores"][i]
        np.testing.assert_allclose(run.found.stats["scores"][i], expected, rtol=1e-4)


def test_halving_drops_those_that_lag(seen):
    num, steps = 11, 16
    rule = Halving((0.25, 0.5), 0.5)
    kwargs = {"num_restarts": num, "chunk": 3, "num_records": 4}
    run = Runner(attack(steps), halving=rule, keep=5, **kwargs)(KEY, seen)
    whole = jax.jit(iterate(restarts(attack(steps), num), num_records=steps))
    keys = jax.random.split(KEY, num)
    one = jax.jit(iterate(attack(steps), num_records=steps))
    traces = np.stack([one(k, seen).stats["trace"]["score"] for k in keys])
    alive = np.arange(num)
    for rung, left in ((4, 5), (8, 2)):
        alive = np.sort(alive[np.argsort(traces[alive, rung - 1])[:left]])
    stats = run.found.stats
    done = np.flatnonzero(stats["statuses"] == Status.OK)
    np.testing.assert_array_equal(done, alive)
    assert (np.delete(stats["statuses"], alive) == Status.DROPPED).all()
    np.testing.assert_array_equal(
        np.bincount(stats["steps_taken"])[[4, 8, 16]], [6, 3, 2]
    )
    assert run.restart_iterations == 6 * 4 + 3 * 8 + 2 * 16 < num * steps
    full = whole(KEY, seen).stats["scores"]
    np.testing.assert_allclose(stats["scores"][alive], full[alive], rtol=1e-4)
    assert set(stats["kept"].stats["start"]) == set(alive)
    assert run.found.score == stats["scores"][alive].min()


@pytest.mark.parametrize(
    "kwargs", [{"rungs_at": (1.5,)}, {"rungs_at": ()}, {"keep": 1}]
)
def test_halving_refuses_what_cannot_be(kwargs):
    with pytest.raises(InputError, match="expected"):
        Halving(**kwargs)
