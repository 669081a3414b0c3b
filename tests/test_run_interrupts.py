"""Runs that end early: the best so far is kept, and nothing is left behind."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_attacks import KEY, SPEC, attack, loss, observation

from jaxinv import matching
from jaxinv.attacks.base import Status, iterate, restarts
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.objective import objective
from jaxinv.release import gradient
from jaxinv.run import Runner
from jaxinv.space import pixels


@pytest.fixture(scope="module")
def seen():
    return observation()


@pytest.fixture(scope="module")
def runner():
    return Runner(attack(), num_restarts=2, num_records=5)


@pytest.fixture(scope="module")
def whole(seen):
    return jax.jit(iterate(restarts(attack(), 2, batch_size=2)))(KEY, seen)


def press_ctrl_c(after):
    """An on_record that sends the process one SIGINT at a step."""

    def on_record(step, score):
        if step == after:
            os.kill(os.getpid(), signal.SIGINT)

    return on_record


def raise_interrupt(after):
    def on_record(step, score):
        if step == after:
            raise KeyboardInterrupt

    return on_record


@pytest.mark.parametrize("interrupt", [press_ctrl_c, raise_interrupt])
@pytest.mark.parametrize("after", [8, 17])
def test_an_interrupt_keeps_the_best_so_far(runner, seen, whole, interrupt, after):
    handler = signal.getsignal(signal.SIGINT)
    run = runner(KEY, seen, interrupt(after))
    assert signal.getsignal(signal.SIGINT) is handler
    assert run.interrupted and run.steps[-1] == after
    assert run.found.status == Status.INTERRUPTED
    assert np.isfinite(run.found.score) and np.isfinite(run.found.batch.inputs).all()
    trace = whole.stats["trace"]["score"]
    np.testing.assert_allclose(run.found.score, trace[after - 1], rtol=1e-4)
    assert not runner(KEY, seen).interrupted  # nothing of it is left


@pytest.fixture
def heeded():
    """Ctrl-C as Python means it, also where a shell started this in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_interrupt_is_not_held_back(runner, seen, heeded):
    handler = signal.getsignal(signal.SIGINT)

    def impatient(step, score):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second one was held")

    # It is raised inside on_record, which may raise it: the run ends at its chunk.
    assert runner(KEY, seen, impatient).interrupted
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_interrupt_while_finishing_loses_nothing(seen):
    attack_ = attack(3)

    def finish(observation, state):
        found = attack_.finish(observation, state)
        score = jax.pure_callback(press, found.score, found.score)
        return found.replace(score=score)

    def press(score):
        os.kill(os.getpid(), signal.SIGINT)
        return score

    run = Runner(attack_._replace(finish=finish))(KEY, seen)
    assert run.interrupted and run.steps[-1] == 3 and np.isfinite(run.found.score)


def test_other_errors_pass_and_restore_the_handler(runner, seen):
    handler = signal.getsignal(signal.SIGINT)

    def broken(step, score):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        runner(KEY, seen, broken)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_diverged_run_is_not_called_interrupted(seen):
    def nan(key, observation, batch):
        total, terms = objective(gradient(loss), matching.squared())(
            key, observation, batch
        )
        return total * jnp.nan, terms

    lost = gradient_matching(nan, pixels(SPEC), optax.sgd(0.1), 4)
    run = Runner(lost)(KEY, seen, raise_interrupt(2))
    assert run.interrupted and run.found.status == Status.DIVERGED


def test_an_interrupt_between_batches_keeps_those_that_were_run(seen):
    runner = Runner(attack(10), num_restarts=5, chunk=2, num_records=2)
    run = runner(KEY, seen, raise_interrupt(6))
    stats = run.found.stats
    assert run.interrupted and run.found.status == Status.INTERRUPTED
    np.testing.assert_array_equal(stats["steps_taken"], [10, 10, 5, 5, 0])
    names = [Status(s).name for s in stats["statuses"]]
    assert names == ["OK", "OK", "INTERRUPTED", "INTERRUPTED", "INTERRUPTED"]
    assert np.isfinite(stats["scores"][:4]).all() and np.isinf(stats["scores"][4])
    assert run.found.score == stats["scores"].min()
