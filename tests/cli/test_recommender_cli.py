"""`jaxinv audit recommender`: what it asks for, what it prints, how it refuses."""

import json

import pytest
from fakes import fake_rated, rater

from jaxinv.audits import recommender
from jaxinv.cli import main, running


@pytest.fixture(autouse=True)
def uncached(monkeypatch):
    """A test must not write to the user's cache."""
    monkeypatch.setattr(running, "use_cache", lambda: None)


@pytest.fixture
def asked(monkeypatch):
    """Configs that the command line asked for; the audit itself is a fake."""
    configs = []

    def run_audit(config, *, on_progress=None):
        configs.append(config)
        wrong = {"exact": 0.1, "mae": 1.2, "status": "UNDERDETERMINED"}
        f1 = [{"f1": value} if config.implicit else {} for value in (1.0, 0.1)]
        users = [rater(0, **f1[0]), rater(7, **wrong, **f1[1])]
        return fake_rated(users, config=config, data="[red]x.csv")

    monkeypatch.setattr(recommender, "run_audit", run_audit)
    return configs


def test_options_reach_the_audit(asked, tmp_path):
    words = (
        "audit recommender --model ncf --attack mgradinv --embedding known "
        "--data x.csv --users 5 --least-ratings 10 --most-ratings 60 --rounds 3 "
        "--interval 4 --start 2 --dim 16 --restarts 3 --iterations 9 --seed 1 "
        "--learning-rate 0.3 --together --noise 0.1 --float16 --float64 "
        "--implicit --all-items "
        "--set model.activation=gelu --set attack.spread=0.5 --quiet"
    )
    assert main([*words.split(), "--out", str(tmp_path)]) == 130
    assert asked == [
        recommender.AuditConfig(
            model="ncf",
            attack="mgradinv",
            embedding="known",
            data="x.csv",
            implicit=True,
            all_items=True,
            users=5,
            least_ratings=10,
            most_ratings=60,
            rounds=3,
            interval=4,
            start=2,
            dim=16,
            restarts=3,
            iterations=9,
            seed=1,
            learning_rate=0.3,
            together=True,
            noise=0.1,
            float16=True,
            float64=True,
            model_options={"activation": "gelu"},
            attack_options={"spread": 0.5},
        )
    ]


def test_prints_a_table_that_fits_the_verdict_and_the_place(
    asked, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "80")
    words = ["audit", "recommender", "--users", "2", "--out", str(tmp_path)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "Factorisation of several rounds on mf, [red]x.csv" in out
    assert "20 of 20" in out and "2 of 20" in out
    assert "UNDERDETERMINED" in out and "little or nothing" in out
    assert "Every rating of 1 of 2 users was recovered exactly." in out
    assert f"Report: {tmp_path / 'report.html'}" in out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"]["level"] == "exact"


def test_fewer_users_than_asked_is_an_interrupt(asked, tmp_path, capsys):
    assert main(["audit", "recommender", "--out", str(tmp_path)]) == 130
    assert "stopped early" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--model ncff", "did you mean ncf"),
        ("--attack dlg", "attack is 'dlg'; expected one of factorization, mgradinv"),
        ("--model gmf --embedding know", "did you mean known"),
        ("--implicit --attack factorization", "needs explicit ratings of known items"),
        ("--rounds 0", "--rounds: '0' is no whole number from 1"),
        ("--start -1", "--start: '-1' is no whole number from 0"),
        ("--learning-rate much", "--learning-rate: invalid float value: 'much'"),
        ("--noise inf", "noise is inf; expected a share of 0 or more"),
        (
            "--set target.width=3",
            "'target.width=3' is not of the form model.NAME=VALUE",
        ),
        ("--set model.dim=3", "option dim is set in model_options; expected dim"),
        ("--target lenet", "unrecognized arguments: --target lenet"),
        ("--data nowhere.csv", "'nowhere.csv': No such file or directory"),
        ("--data data.txt", "data is 'data.txt'; expected a .csv or .npz"),
        ("--least-ratings 999", "leave some user: they have"),
        ("--set model.stdd=3", "option 'stdd' is unknown to mf; did you mean std?"),
    ],
)
def test_what_is_wrong_is_one_line(capsys, tmp_path, words, says):
    argv = ["audit", "recommender", *words.split(), "--quiet"]
    assert main([*argv, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("jaxinv: error: ") and says in captured.err
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
