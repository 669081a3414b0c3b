"""`python -m bench mgradinv`: a row for each user, and a control that fails."""

import json

import pytest

from bench import mgradinv

KEYS = {"mae", "exact", "auc", "gradient_loss", "status", "seconds", "user"}


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
        assert row["status"] == ("OK" if row["rounds"] == 2 else "GAVE_UP")
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


def test_wrong_arguments_are_refused(capsys):
    with pytest.raises(SystemExit):
        mgradinv.main(["--model", "ncf", "--method", "closed_form"])
    assert "--method closed_form expects --model mf" in capsys.readouterr().err
