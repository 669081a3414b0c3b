"""The host's side of a run: chunks, compilation, memory, what is refused."""

import gc
import threading

import jax
import numpy as np
import pytest
from small_attacks import KEY, TRACED, attack, observation

from jaxinv.attacks.base import Status, closed_form, iterate, restarts
from jaxinv.errors import InputError
from jaxinv.run import Runner


@pytest.fixture(scope="module")
def seen():
    return observation()


@pytest.fixture(scope="module")
def runner():
    return Runner(attack(), num_restarts=2, num_records=5)


@pytest.fixture(scope="module")
def whole(seen):
    return jax.jit(iterate(restarts(attack(), 2, batch_size=2)))(KEY, seen)


def test_chunks_give_the_numbers_of_one_scan(runner, seen, whole):
    run = runner(KEY, seen)
    # 17 steps in at most 5 records: four of 4 and the rest.
    np.testing.assert_array_equal(run.steps, [4, 8, 12, 16, 17])
    for name in ("batch", "score", "status"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            getattr(run.found, name),
            getattr(whole, name),
        )
    trace = np.asarray(whole.stats["trace"]["score"])  # one entry for each step
    np.testing.assert_allclose(run.scores, trace[run.steps - 1], rtol=1e-4)
    assert run.found.status == Status.OK and not run.interrupted and run.seconds > 0
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(run.found))


@pytest.mark.parametrize(
    ("num_records", "steps"),
    [(2, [4, 7]), (50, range(1, 8))],
)
def test_records_end_with_the_last_step(seen, num_records, steps):
    recorded = []
    run = Runner(attack(7), num_records=num_records)(
        KEY, seen, lambda step, score: recorded.append((step, score))
    )
    assert [step for step, _ in recorded] == list(steps)
    np.testing.assert_array_equal(run.steps, steps)
    np.testing.assert_array_equal(run.scores, [score for _, score in recorded])


def test_compiles_once_for_each_shape(runner, seen):
    runner(KEY, seen)
    assert runner.compile_s > 0
    others, larger = [observation(seed) for seed in (1, 2)], observation(3, num=3)
    traced, seconds = len(TRACED), runner.compile_s
    scores = [float(runner(KEY, other).found.score) for other in others]
    assert len(TRACED) == traced and runner.compile_s == seconds
    assert scores[0] != scores[1]
    runner(KEY, larger)
    assert len(TRACED) > traced and runner.compile_s > seconds


def test_donation_leaves_the_observation_alone(runner, seen, whole):
    before = jax.tree.map(np.array, seen)
    for _ in range(2):
        found = runner(KEY, seen).found
        np.testing.assert_allclose(found.score, whole.score, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, seen, before)


def test_runs_outside_the_main_thread(runner, seen):
    found = []
    thread = threading.Thread(target=lambda: found.append(runner(KEY, seen)))
    thread.start()
    thread.join()
    assert found[0].found.status == Status.OK


def test_repeated_runs_hold_no_more_arrays(runner, seen):
    def held():
        gc.collect()
        return len(jax.live_arrays())

    runner(KEY, seen)
    before = held()
    for _ in range(3):
        runner(KEY, seen)
    assert held() <= before


def test_a_closed_form_takes_no_steps(seen):
    def guess(key, observation):
        return iterate(attack(), 2)(key, observation)

    run = Runner(closed_form(guess))(KEY, seen)
    assert run.steps.size == run.scores.size == 0 and np.isfinite(run.found.score)


def test_refuses_no_records():
    with pytest.raises(InputError, match="num_records is 0; expected 1 or more"):
        Runner(attack(), num_records=0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_restarts": 0}, "num_restarts is 0"),
        ({"chunk": 0}, "chunk is 0"),
        ({"keep": 2}, "keep is 2; expected 1 to the 1 restarts"),
        ({"options": {"rate": np.ones(1)}}, "options are given for a finished attack"),
        ({"num_restarts": 2, "options": {"rate": np.ones(3)}}, "has shape \\(3,\\)"),
        ({"precision": "half"}, "precision is 'half'"),
    ],
)
def test_refuses_what_cannot_be(kwargs, message):
    with pytest.raises(InputError, match=message):
        Runner(attack(), **kwargs)
