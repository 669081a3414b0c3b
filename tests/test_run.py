"""The host's side of a run: chunks, compilation, interrupts, memory."""

import gc
import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv import matching, priors
from jaxinv.attacks.base import Status, closed_form, iterate, restarts
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.errors import InputError
from jaxinv.halving import Halving
from jaxinv.objective import objective
from jaxinv.observation import observe
from jaxinv.release import gradient
from jaxinv.run import Runner
from jaxinv.space import pixels
from jaxinv.target import Batch, Spec

SPEC = Spec((2, 2, 1), 3)
KEY, NUM_STEPS = jax.random.key(0), 17
TRACED = []


def loss(params, batch):
    TRACED.append(None)
    logits = batch.inputs.reshape(len(batch.inputs), -1) @ params["w"] + params["b"]
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), batch.labels[:, None], 1)
    return -picked.mean()


def attack(num_steps=NUM_STEPS):
    fn = objective(gradient(loss), matching.squared())
    return gradient_matching(fn, pixels(SPEC), optax.adam(0.05), num_steps)


def observation(seed=0, num=2):
    rng = np.random.default_rng(seed)
    params = {"w": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}
    params = jax.tree.map(jnp.float32, params)
    inputs = rng.uniform(size=(num, *SPEC.shape)).astype(np.float32)
    batch = Batch(inputs, np.arange(num) % 3)
    update = jax.jit(gradient(loss))(KEY, params, batch)
    return observe(params, update, num_examples=num, spec=SPEC, labels=batch.labels)


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


def test_a_diverged_run_is_not_called_interrupted(seen):
    def nan(key, observation, batch):
        total, terms = objective(gradient(loss), matching.squared())(
            key, observation, batch
        )
        return total * jnp.nan, terms

    lost = gradient_matching(nan, pixels(SPEC), optax.sgd(0.1), 4)
    run = Runner(lost)(KEY, seen, raise_interrupt(2))
    assert run.interrupted and run.found.status == Status.DIVERGED


def test_refuses_no_records():
    with pytest.raises(InputError, match="num_records is 0; expected 1 or more"):
        Runner(attack(), num_records=0)


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


def swept(learning_rate, weight):
    fn = objective(
        gradient(loss), matching.squared(), priors.weighted((weight, priors.l2_norm))
    )
    return gradient_matching(fn, pixels(SPEC), optax.adam(learning_rate), NUM_STEPS)


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


@pytest.mark.parametrize(
    "kwargs", [{"rungs_at": (1.5,)}, {"rungs_at": ()}, {"keep": 1}]
)
def test_halving_refuses_what_cannot_be(kwargs):
    with pytest.raises(InputError, match="expected"):
        Halving(**kwargs)
