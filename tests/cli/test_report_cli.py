"""`jaxinv report` as it is typed."""

import json

import pytest
from fake_runs import write_run

from jaxinv.cli import main


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    base = tmp_path_factory.mktemp("runs")
    return [str(write_run("images", base / str(seed), seed)) for seed in (0, 1)]


def test_writes_a_comparison_and_says_where(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "out"
    assert main(["report", *runs, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert f"Report: {out / 'compare.html'}" in said.out and said.err == ""
    assert "were partly recovered" in said.out
    assert len(json.loads((out / "compare.json").read_text())["runs"]) == 2
    assert main(["report", *runs, "--out", str(out), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_headline_steers_no_terminal(runs, tmp_path, capsys):
    folder = write_run("images", tmp_path / "bad")
    report = json.loads((folder / "report.json").read_text("utf-8"))
    report["verdict"]["headline"] = "\x1b]0;owned\x07[red]\u202ex\r\n"
    (folder / "report.json").write_text(json.dumps(report))
    assert main(["report", runs[0], str(folder), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "?]0;owned?[red]?x" in said
    assert not set("\x1b\x07\u202e\r") & set(said)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "the following arguments are required: DIR"),
        ("{0}", "DIR is given 1 times; expected 2 to 16 folders of audits"),
        ("{0} {0}", "twice; expected different folders"),
        ("{0} nowhere", "nowhere: report.json: there is none; expected the folder"),
        ("{0} {1} --out {0}/report.json", "report.json': Not a directory; expected a"),
        ("{0} {1} --ot x", "unrecognized arguments: --ot x"),
    ],
)
def test_what_is_wrong_is_one_line(runs, capsys, words, says):
    assert main(["report", *words.format(*runs).split()]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert says in said.err


def test_a_folder_in_the_way_is_refused(runs, tmp_path, capsys):
    (tmp_path / "compare.html").mkdir()
    assert main(["report", *runs, "--out", str(tmp_path)]) == 2
    assert "compare.html in it is a folder" in capsys.readouterr().err
