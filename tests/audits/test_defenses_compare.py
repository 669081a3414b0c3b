"""Defences compared end to end, on digits small enough to train on in seconds."""

import json
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv import cli, defenses, models
from jaxinv.audits.defenses import CompareConfig, Training, compare, utility
from jaxinv.audits.defenses.config import NONE
from jaxinv.audits.defenses.record import CEILING, _dominates
from jaxinv.audits.progress import Progress
from jaxinv.errors import InputError
from jaxinv.release import gradient
from jaxinv.reports.defenses import judge, render
from jaxinv.target import Batch, Spec

pytestmark = pytest.mark.usefixtures("compiled_quickly")

QUICK = Training(60, 2, 16, learning_rate=2e-2, evaluations=3, seeds=2)


@pytest.fixture(scope="module")
def found():
    pytest.importorskip("sklearn")
    config = CompareConfig(
        defenses=("gaussian_noise:std=30", "pruning:rate=0.9", "dp_sgd"),
        attacks=("linear_layer",),
        num_examples=3,
        training=QUICK,
        target_options={"widths": [24]},
    )
    kept, told = [], []
    result = compare(
        config,
        on_row=lambda now: kept.append(len(now.rows)),
        on_progress=told.append,
    )
    assert kept == [1, 2, 3, 4]
    shares = [done / steps for done, steps in map(Progress.steps, told)]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    return result


@pytest.fixture(scope="module")
def blobs():
    """Ten classes that a straight line parts, and a model of one layer."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 8))
    labels = np.arange(240) % 3
    inputs = centres[labels] + 0.3 * rng.normal(size=(240, 8))
    target = models.build("mlp", Spec((8,), 3), widths=())
    batch = Batch(jnp.asarray(inputs, jnp.float32), jnp.asarray(labels))
    parts = [jax.tree.map(lambda leaf, s=s: leaf[s], batch) for s in (S1, S2)]
    return target, *parts


S1, S2 = slice(0, 160), slice(160, 240)


def test_every_row_has_privacy_and_accuracy(found):
    rows = found.report["rows"]
    assert [row["defense"] for row in rows] == [
        NONE,
        "gaussian_noise:std=30",
        "pruning:rate=0.9",
        "dp_sgd",
    ]
    plain, noisy, pruned, private = rows
    # A dense first layer gives the digits away, and noise of thirty does not.
    assert plain["strongest"]["psnr"] == CEILING
    assert noisy["strongest"]["psnr"] < 15 and private["strongest"]["psnr"] < 20
    assert plain["accuracy"] > 0.6 > noisy["accuracy"] + 0.2
    for row in rows:
        assert 0 <= row["accuracy"] <= 1 and len(row["accuracy_of_seeds"]) == 2
        low, high = row["accuracy_interval"]
        assert low <= row["accuracy"] <= high
        assert row["curve"]["rounds"] == [20, 40, 60]
    assert [a["attacker"] for a in pruned["attempts"]] == ["blind", "adaptive"]
    assert [a["attacker"] for a in noisy["attempts"]] == ["blind"]


def test_an_epsilon_is_stated_where_there_is_one(found):
    *others, private = found.report["rows"]
    assert all(row["epsilon"] is None for row in others)
    spent = private["epsilon"]
    train = 1797 - round(0.2 * 1797)
    rate = QUICK.batch_size / (train // QUICK.clients)
    assert spent["rounds"] == QUICK.rounds and spent["sampling_rate"] == rate
    again = defenses.epsilon(1.0, sampling_rate=rate, rounds=60, delta=1e-5)
    assert spent["epsilon"] == pytest.approx(again)


def test_the_front_is_what_no_other_beats(found):
    rows = found.report["rows"]
    for row in rows:
        beaten = any(
            other["accuracy"] >= row["accuracy"]
            and other["strongest"]["psnr"] <= row["strongest"]["psnr"]
            and other is not row
            and (other["accuracy"], other["strongest"]["psnr"])
            != (row["accuracy"], row["strongest"]["psnr"])
            for other in rows
        )
        assert row["pareto"] is not beaten
        assert not _dominates(row, row)


def test_the_report_is_json_and_a_page(found):
    json.dumps(found.report, allow_nan=False)
    page = render(found, judge(found.report))
    assert "Privacy against accuracy" in page and "gaussian_noise:std=30" in page
    for row in found.report["rows"]:
        assert f"{100 * row['accuracy']:.1f}" in page


def test_training_is_what_a_loop_of_adam_makes_of_it(blobs):
    """One client whose share is one batch, against optax in a Python loop."""
    target, train, test = blobs
    training = Training(5, 1, len(train.inputs), 1e-2, evaluations=1, seeds=1)
    release = gradient(target.loss)
    key = jax.random.key(3)
    made = utility(key, target, release, train, test, training).params
    of_start, _, _ = jax.random.split(jax.random.split(key, 1)[0], 3)
    params = target.init(of_start)
    adam = optax.adam(optax.cosine_decay_schedule(1e-2, 5))
    state = adam.init(params)
    for _ in range(5):
        steps, state = adam.update(jax.grad(target.loss)(params, train), state, params)
        params = optax.apply_updates(params, steps)
    for a, b in zip(*map(jax.tree.leaves, (made, params)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)


def test_utility_sees_a_defence_and_its_end(blobs):
    target, train, test = blobs
    plain = gradient(target.loss)
    deaf = defenses.build([defenses.asked("pruning:rate=1")], plain, target)

    def last(release, protected):
        training = Training(40, 2, 16, 3e-2, protected, evaluations=2, seeds=1)
        key = jax.random.key(0)
        found = utility(key, target, release, train, test, training, plain=plain)
        return np.asarray(found.accuracy[0])

    never, half, always = last(plain, None), last(deaf, 20), last(deaf, None)
    assert never[-1] > 0.9
    # Nothing is sent, nothing is learnt; from the middle on there is.
    assert always[0] == always[1] == half[0] < never[0]
    assert half[1] > 0.9


@pytest.mark.parametrize(
    "options, message",
    [
        ({"defenses": ("clipin",)}, "did you mean clipping"),
        ({"defenses": ()}, "defenses is empty"),
        ({"defenses": ("sign", "sign")}, "named twice"),
        ({"attacks": ("dgl",)}, "did you mean dlg"),
        ({"num_examples": 0}, "num_examples is 0"),
        ({"attack_options": {"memory": 1}}, "option 'memory' is unknown to linear_l"),
        ({"withhold": ("names",)}, "knowledge is 'names'"),
        ({"defenses": ("sign+clipping:norm=much",)}, "option norm of clipping"),
    ],
)
def test_wrong_settings_get_one_line(options, message):
    with pytest.raises(InputError, match=message) as refusal:
        CompareConfig(**options)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"clients": -1}, "clients is -1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"protected_rounds": -1}, "protected_rounds is -1"),
    ],
)
def test_wrong_training_gets_one_line(options, message):
    with pytest.raises(InputError, match=message):
        Training(**options)


def test_a_share_smaller_than_a_batch_is_refused(blobs):
    target, train, test = blobs
    with pytest.raises(InputError, match="batch_size is 100; a client has 80"):
        utility(
            jax.random.key(0),
            target,
            gradient(target.loss),
            train,
            test,
            Training(clients=2, batch_size=100),
        )


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"defenses": ("dp_sgd",), "training": Training(batch_size=4000)},
            "batch_size is 4000; a client has 359",
        ),
        (
            {"defenses": ("encryption+pruning",)},
            "encryption comes before pruning; expected it last",
        ),
        ({"trained_options": {"wdths": [8]}}, "'wdths' is unknown to mlp; did you"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_attacked(options, message):
    pytest.importorskip("sklearn")
    told = []
    with pytest.raises(InputError, match=message):
        compare(CompareConfig(**options), on_progress=told.append)
    assert told == []


def test_another_norm_or_width_is_trained_where_one_asks(found):
    pytest.importorskip("sklearn")
    config = CompareConfig(
        defenses=("pruning:rate=0.9",),
        attacks=("linear_layer",),
        num_examples=3,
        training=QUICK,
        target_options={"widths": [24]},
        trained_options={"widths": [1]},
    )
    plain = compare(config).report["rows"][0]
    wide = found.report["rows"][0]
    assert plain["strongest"]["psnr"] == wide["strongest"]["psnr"]
    assert plain["accuracy"] < wide["accuracy"] - 0.2


def test_the_command_repeats_the_comparison(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        "jaxinv.audits.defenses.compare", lambda config, **_: seen.append(config) or 1
    )
    monkeypatch.setattr(
        "jaxinv.cli.defenses.run_and_report", lambda a, f, run, *_: run()
    )
    config = CompareConfig(
        defenses=("clipping:norm=1e+3+sign", "censor"),
        attacks=("dlg", "linear_layer"),
        withhold=("labels",),
        normalise=True,
        training=Training(rounds=7, protected_rounds=2, learning_rate=0.5),
        target_options={"widths": [8]},
        trained_options={"widths": [16]},
        attack_options={"memory_size": 7},
        seed=4,
    )
    words = shlex.split(config.command())[1:]
    assert cli.main([*words, "--out", str(tmp_path)]) == 1
    assert seen == [config]
    assert [a.name for a in config.audit(config.defenses[0], "dlg").chain()] == [
        "clipping",
        "sign",
    ]
