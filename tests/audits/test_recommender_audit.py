"""The audit of a recommender end to end, small enough for seconds."""

import dataclasses
import json
import os
import shlex
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv import cli
from jaxinv.audits.recommender import AuditConfig, clients, run_audit
from jaxinv.data.ratings import generated_ratings
from jaxinv.errors import InputError, KnowledgeError
from jaxinv.reports.recommender import judge, render

NAME = "\"><img src=x onerror=alert('1')>.csv"


pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A csv with a hostile name: eight users, whole stars."""
    ratings = generated_ratings(num_users=8, num_items=40)
    path = tmp_path_factory.mktemp("data") / NAME
    stars = np.ceil(ratings.rating).astype(int)
    rows = zip(ratings.user, ratings.item, stars, strict=True)
    lines = ["userId,movieId,rating", *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture(scope="module")
def small(data):
    return {"data": data, "users": 3, "dim": 8}


@pytest.fixture(scope="module")
def exact(small):
    return run_audit(AuditConfig(**small))


def test_two_rounds_give_every_rating_away(exact):
    report = exact.report
    assert report["attack"] == "factorization"
    assert report["summary"]["users"] == 3
    assert report["summary"]["exact_share"] == 1
    assert report["dataset"]["scale"] == {"low": 1.0, "high": 5.0, "step": 1.0}
    for user, row in zip(report["users"], exact.ratings, strict=True):
        assert user["status"] == "OK" and user["exact"] == 1 and user["mae"] < 0.05
        assert user["num_ratings"] == len(row.true) >= 20
        np.testing.assert_allclose(row.found, row.true, atol=0.3)
        assert user["mae"] == pytest.approx(abs(row.found - row.true).mean(), rel=1e-2)
    assert (
        judge(report).headline == "Every rating of 3 of 3 users was recovered exactly."
    )


def test_another_update_gives_nothing_away(small, monkeypatch):
    """The negative control: every row held against the neighbour's item."""

    def rolled(key, observation, **_):
        update = jax.tree.map(lambda x: jnp.roll(x, 1, axis=1), observation.update)
        return dataclasses.replace(observation, update=update)

    monkeypatch.setattr(clients, "in_transit", rolled)
    report = run_audit(AuditConfig(**small)).report
    assert report["summary"]["exact_share"] == 0
    assert judge(report).level == "nothing"


def test_one_round_does_not_determine_the_ratings(small):
    report = run_audit(AuditConfig(**small, rounds=1)).report
    assert report["summary"]["exact_share"] == 0
    assert all(user["status"] != "OK" for user in report["users"])


def test_the_report_has_what_is_promised(exact):
    report = exact.report
    assert report.keys() >= set(
        """case attack model knowledge withheld settings versions device compile_s run_s
        command dataset interrupted users summary""".split()
    )
    assert report["users"][0].keys() >= set(
        """user num_ratings mae exact auc embedding_error gradient_loss status
        seconds""".split()
    )
    assert report["summary"].keys() >= set(
        """users exact_share mae_mean mae_half_width matched_but_wrong_share
        gave_up_share""".split()
    )
    assert report["case"] == "recommender"
    assert set(report["withheld"]) == {"ratings", "embedding"}
    json.dumps(report, allow_nan=False)


def test_a_hostile_name_is_escaped(exact):
    page = render(exact, judge(exact.report))
    assert exact.report["dataset"]["name"] == NAME
    assert "<img" not in page and "&lt;img src=x" in page


def test_known_embeddings_are_an_upper_bound_and_called_so(small):
    """Also everyone training, float64, a model with a shared layer, an update rounded
    and noisy."""
    asked = {**small, "users": 1, "model": "gmf", "embedding": "known"}
    more = {"together": True, "float64": True, "restarts": 2, "iterations": 3}
    result = run_audit(AuditConfig(**asked, **more, noise=1e-4, float16=True))
    report = result.report
    assert report["attack"] == "mgradinv"
    assert "embedding" in report["knowledge"]
    assert report["withheld"] == ["ratings"]
    (user,) = report["users"]
    assert user["exact"] == 1 and user["embedding_error"] == 0
    assert report["settings"]["restarts"] == 2
    assert report["settings"]["iterations"] == 3
    told = user["convergence"]
    assert told["steps"] == [1, 2, 3] and told["starts"] == [2, 2, 2]
    assert not jax.config.read("jax_enable_x64")
    assert "upper bound" in " ".join(judge(report).details)
    page = render(result, judge(report))
    assert "granted for an upper bound" in page
    assert "Gaussian noise of share 0.0001" in page


def test_interactions_are_judged_as_such(small):
    """Granted the embedding, one step finds every one of them."""
    asked = {**small, "implicit": True, "embedding": "known", "iterations": 1}
    result = run_audit(AuditConfig(**asked))
    report = result.report
    assert report["attack"] == "mgradinv"
    assert report["dataset"]["scale"] == {"low": 0, "high": 1, "step": 1}
    for user, row in zip(report["users"], result.ratings, strict=True):
        assert user["exact"] == user["f1"] == user["auc"] == 1
        # Forty items: what is not rated is a negative.
        assert user["num_ratings"] == 40 and set(row.true) == {0, 1}
    assert report["summary"]["f1_mean"] == 1
    verdict = judge(report)
    said = "Every interaction of 3 of 3 users was recovered exactly."
    assert verdict.headline == said
    page = render(result, verdict)
    assert "users with every interaction exact" in page
    assert "Interactions of user" in page and "an interaction, 1, or a negative" in page


def test_hidden_items_are_found(small):
    asked = {**small, "all_items": True, "noise": 0.01, "data": None}
    asked |= {"rounds": 3, "restarts": 2, "learning_rate": 0.3, "most_ratings": 40}
    result = run_audit(AuditConfig(**asked))
    report = result.report
    assert report["attack"] == "mgradinv"
    assert "items" in report["withheld"] and "items" not in report["knowledge"]
    assert all(user["items_f1"] > 0.97 for user in report["users"])
    assert "F1 score of 1.00" in " ".join(judge(report).details)
    assert "which noise hid" in render(result, judge(report))
    # Without noise the rows of zeros tell.
    asked |= {"noise": 0.0, "iterations": 1, "restarts": 1, "users": 1}
    assert "items" in run_audit(AuditConfig(**asked)).report["knowledge"]


def test_an_interrupt_keeps_what_was_done(small):
    def stop(now):
        assert (now.unit, now.num_parts) == ("user", 3)
        if now.part == 1:
            raise KeyboardInterrupt

    report = run_audit(AuditConfig(**small), on_progress=stop).report
    assert report["interrupted"]
    assert [user["exact"] for user in report["users"]] == [1]
    assert report["summary"]["users"] == 1
    assert "stopped early" in " ".join(judge(report).details)


def test_ctrl_c_before_anything_leaves_nothing(small):
    def stop(now):
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_audit(AuditConfig(**small), on_progress=stop)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": "ncff"}, "did you mean ncf"),
        ({"attack": "mgradinf"}, "did you mean mgradinv"),
        ({"attack": "factorization", "model": "ncf"}, "model 'ncf'; it attacks mf"),
        ({"model": "ncf", "embedding": "knwon"}, "did you mean known"),
        ({"embedding": "known"}, "factorization has no such choice"),
        ({"iterations": 5}, "closed form and takes no steps"),
        ({"model": "gmf", "iterations": 0}, "iterations is 0"),
        ({"attack": "factorization", "implicit": True}, "implicit is True; factor"),
        ({"attack": "factorization", "all_items": True}, "all_items is True; factor"),
        ({"rounds": 0}, "rounds is 0"),
        ({"interval": 0}, "interval is 0"),
        ({"start": -1}, "start is -1"),
        ({"users": 0}, "users is 0"),
        ({"dim": 0}, "dim is 0"),
        ({"restarts": 0}, "restarts is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"most_ratings": 19}, "most_ratings is 19; expected at least"),
        ({"model_options": {"dim": 3}}, "option dim is set in model_options"),
        ({"attack_options": {"num_steps": 3}}, "expected iterations, which sets it"),
    ],
)
def test_wrong_settings_are_refused_when_made(settings, says):
    with pytest.raises(InputError, match=says) as refused:
        AuditConfig(**settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"least_ratings": 999}, InputError, "least_ratings is 999"),
        ({"data": "ratings.txt"}, InputError, "expected a .csv or .npz"),
        ({"data": ""}, InputError, "expected a .csv or .npz"),
        ({"data": "nowhere.csv"}, OSError, "nowhere.csv"),
        ({"model_options": {"stdd": 1.0}}, InputError, "did you mean std"),
        (
            {"attack": "mgradinv", "attack_options": {"sprea": 1.0}},
            InputError,
            "did you mean spread",
        ),
        (
            {"attack": "mgradinv", "attack_options": {"coupling": "tied"}},
            KnowledgeError,
            "local_training is needed and not granted",
        ),
    ],
)
def test_what_does_not_fit_is_refused_when_run(small, settings, error, says):
    with pytest.raises(error, match=says):
        run_audit(AuditConfig(**{**small, **settings}))


@pytest.mark.parametrize(
    "config",
    [
        AuditConfig(),
        AuditConfig(
            model="ncf",
            embedding="random",
            rounds=3,
            interval=5,
            start=7,
            together=True,
            learning_rate=0.3,
            data="a folder/with 'quotes'.csv",
            implicit=True,
            all_items=True,
            users=5,
            least_ratings=10,
            most_ratings=60,
            dim=16,
            restarts=3,
            iterations=9,
            noise=0.01,
            float16=True,
            float64=True,
            seed=4,
            model_options={"activation": "gelu", "widths": [8, 4]},
            attack_options={"spread": 0.5},
        ),
    ],
)
def test_the_command_in_the_report_repeats_the_audit(config, monkeypatch, tmp_path):
    caught = []

    def pretend(config, on_progress=None):
        caught.append(config)
        raise InputError("enough")

    monkeypatch.setattr("jaxinv.audits.recommender.run_audit", pretend)
    monkeypatch.setattr("jaxinv.cli.running.use_cache", lambda: None)
    program, *argv = shlex.split(config.command())
    assert program == "jaxinv"
    assert cli.main([*argv, "--out", str(tmp_path / "out")]) == 2
    assert caught == [config]
