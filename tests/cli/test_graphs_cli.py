"""`jaxinv audit molecules` and `citations`: what they ask for, print and refuse."""

import json
import sys

import pytest
from fake_graphs import fake_citations, fake_molecules

from jaxinv.audits import graphs
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
        if isinstance(config, graphs.CitationsConfig):
            return fake_citations()
        return fake_molecules(config)

    monkeypatch.setattr(graphs, "run_audit", run_audit)
    return configs


SHARED = {
    "num": 5,
    "seed": 1,
    "model": "gat",
    "depth": 3,
    "width": 16,
    "activation": "relu",
    "noise": 0.1,
    "float16": True,
    "controls": 2,
    "candidates": 1000,
    "seconds": 2.5,
    "model_options": {"heads": 4},
}
WORDS = (
    "--num 5 --seed 1 --model gat --depth 3 --width 16 --activation relu --noise 0.1 "
    "--float16 --controls 2 --candidates 1000 --seconds 2.5 --set model.heads=4 --quiet"
)


def test_options_reach_the_audit(asked, tmp_path):
    words = f"audit molecules --data x.csv --label y --no-chemistry {WORDS}".split()
    assert main([*words, "--out", str(tmp_path)]) == 0
    words = f"audit citations --data x.npz {WORDS}".split()
    # The fake ran no control.
    assert main([*words, "--out", str(tmp_path)]) == 130
    own = {"label": "y", "no_chemistry": True}
    assert asked == [
        graphs.MoleculesConfig(data="x.csv", **own, **SHARED),
        graphs.CitationsConfig(data="x.npz", **SHARED),
    ]


def test_defaults_are_those_of_the_config(asked, tmp_path):
    for case in ("molecules", "citations"):
        assert main(["audit", case, "--quiet", "--out", str(tmp_path)]) in (0, 130)
    assert asked == [graphs.MoleculesConfig(), graphs.CitationsConfig()]


def test_prints_a_table_that_fits_the_verdict_and_the_place(
    asked, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "80")
    words = ["audit", "molecules", "--controls", "2", "--out", str(tmp_path)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "GRAIN on gcn, <script>" in out and "[red]x" in out
    assert "c1ccccc1" in out and "molecule 4" not in out
    for said in (
        "exact, no other found",
        "exact, at least 2 fit",
        "at the neighbourhoods",
        "wrong, called unique",
        "2 of 5 molecules were recovered exactly, each from one gradient;",
        f"Report: {tmp_path / 'report.html'}",
    ):
        assert said in out
    assert max(map(len, out.partition("2 of 5")[0].splitlines())) <= 80
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"]["level"] == "exact"


def test_prints_citations(asked, tmp_path, capsys):
    assert main(["audit", "citations", "--out", str(tmp_path)]) == 130
    captured = capsys.readouterr()
    assert "graph 1" in captured.out and "nodes" in captured.out
    assert "generated network" in captured.out
    # No control was run, though some were asked for.
    assert "stopped early" in captured.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("molecules --model gcm", "did you mean gcn"),
        ("molecules --num 0", "--num: '0' is no whole number from 1"),
        ("molecules --num 99", "num is 99; expected 1 to 38"),
        ("molecules --seconds 0", "seconds is 0.0; expected a positive number"),
        ("molecules --noise inf", "noise is inf; expected a share of 0 or more"),
        ("molecules --data x.txt", "data is 'x.txt'; expected a .csv file"),
        ("molecules --data no.csv", "'no.csv': No such file or directory"),
        ("molecules --label y", "label is 'y'; expected None without data"),
        ("molecules --activation silu", "activation is 'silu'; expected one of"),
        ("molecules --model gat --activation relu", "option 'activation' is unknown"),
        ("molecules --set model.depth=3", "option depth is set in model_options"),
        ("molecules --set attack.x=3", "is not of the form model.NAME=VALUE"),
        ("molecules --target lenet", "unrecognized arguments: --target lenet"),
        ("citations --label y", "unrecognized arguments: --label y"),
        ("citations --data no.npz", "'no.npz': No such file or directory"),
        ("citations --data x.csv", "data is 'x.csv'; expected a .npz file"),
        ("citation", "case is 'citation'; did you mean citations"),
    ],
)
def test_what_is_wrong_is_one_line(capsys, tmp_path, words, says):
    argv = ["audit", *words.split(), "--quiet", "--out", str(tmp_path / "out")]
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("jaxinv: error: ") and says in captured.err
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_no_rdkit_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    words = ["audit", "molecules", "--quiet", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "pip install 'jaxinv[molecules]'" in error and error.count("\n") == 1
