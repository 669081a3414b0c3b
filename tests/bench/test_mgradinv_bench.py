"""`python -m bench mgradinv`: a row for each user, and a control that fails."""

import json

import pytest

from bench import mgradinv
from jaxinv.local_training import LocalTraining

KEYS = {"mae", "exact", "auc", "gradient_loss", "status", "seconds", "user"}
QUICK = ("--restarts", "2", "--steps", "20")


def rows_of(path, *argv):
    small = ("--users", "6", "--dim", "4")
    assert mgradinv.main([*argv, *small, "--json", str(path)]) == 0
    return json.loads(path.read_text("utf-8"))


@pytest.fixture(autouse=True)
def generated(monkeypatch):
    monkeypatch.delenv("JAXINV_DATA", raising=False)


def test_the_closed_form_and_its_control(tmp_path, capsys):
    closed = ("--method", "closed_form")
    rows = rows_of(tmp_path / "a.json", *closed, "--rounds", "1", "2")
    assert len(rows) == 12 and all(row.keys() >= KEYS for row in rows)
    for row in rows:
        assert (row["exact"] == 1) == (row["rounds"] == 2)
        assert row["status"] == ("OK" if row["rounds"] == 2 else "UNDERDETERMINED")
        assert row["command"].startswith("python -m bench mgradinv")
        assert str(tmp_path) not in row["command"]
    assert "100.0%" in capsys.readouterr().out
    together = rows_of(tmp_path / "b.json", *closed, "--together")
    assert all(row["exact"] == 1 for row in together)
    wrong = rows_of(tmp_path / "c.json", *closed, "--wrong")
    assert not any(row["exact"] == 1 for row in wrong)


def test_float16_and_noise_cost_digits(tmp_path):
    closed = ("--method", "closed_form", "--interval", "50")
    errors = []
    for name, options in (("a", ()), ("b", ("--float16",)), ("c", ("--noise", "0.3"))):
        rows = rows_of(tmp_path / f"{name}.json", *closed, *options)
        errors.append(sum(row["mae"] for row in rows) / len(rows))
    assert errors[0] < 1e-3 < errors[1] < errors[2]


def test_interactions_and_hidden_items(tmp_path, capsys):
    rows = rows_of(
        tmp_path / "a.json", *QUICK, "--implicit", "--embedding", "known", "--steps=1"
    )
    assert all(row["exact"] == row["f1"] == row["auc"] == 1 for row in rows)
    assert "F1" in capsys.readouterr().out
    every = (*QUICK, "--all-items", "--noise", "0.01", "--most-ratings", "40")
    found = rows_of(tmp_path / "b.json", *every)
    assert all(row["items_f1"] > 0.97 for row in found)
    assert all(row["attack_options"] == {"items": "all"} for row in found)
    missed = rows_of(tmp_path / "c.json", *every, "--set", "items=same")
    assert all(row["items_f1"] < 0.7 for row in missed)
    assert all(row["attack_options"] == {"items": "same"} for row in missed)


def test_tied_embeddings_are_told_each_interval(tmp_path, monkeypatch):
    told = []

    def spy(rate, *, local_steps):
        told.append(local_steps)
        return LocalTraining(rate, local_steps=local_steps)

    monkeypatch.setattr(mgradinv, "LocalTraining", spy)
    tied = ("--set", "coupling=tied", "--set", "start=random", "--restarts", "1")
    rows = rows_of(
        tmp_path / "a.json",
        *tied,
        "--steps",
        "1",
        "--interval",
        "1",
        "5",
        "--start",
        "3",
    )
    # Once for each group of users.
    assert told == sorted(told) and set(told) == {1, 5}
    for row in rows:
        assert row["start"] == 3
        assert row["attack_options"] == {"coupling": "tied", "start": "random"}


def test_wrong_arguments_are_refused(capsys):
    with pytest.raises(SystemExit):
        mgradinv.main(["--model", "ncf", "--method", "closed_form"])
    assert "--method closed_form expects --model mf" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        mgradinv.main(["--implicit", "--method", "closed_form"])
    assert "expects explicit ratings" in capsys.readouterr().err
