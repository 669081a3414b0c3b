"""The audit of an update end to end: files in, a report out, with and without truth."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from browser import Page

from jaxinv import cli
from jaxinv.audits.update import UpdateConfig, run_audit
from jaxinv.cli import main, running
from jaxinv.errors import InputError
from jaxinv.reports.update import judge, render, write_report

pytest.importorskip("torch", reason="torch is not installed")
from exchange.torch_clients import own_files

pytestmark = pytest.mark.usefixtures("compiled_quickly")

WORDS = "--model my_model.py:Net --params before.safetensors --update after.safetensors"
WORDS += " --client client.toml --attack dlg --iterations 150 --restarts 4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return own_files(tmp_path_factory.mktemp("own"))


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(running, "use_cache", lambda: None)


def asked(**changes):
    return UpdateConfig(
        **{
            "model": "my_model.py:Net",
            "params": "before.safetensors",
            "update": "after.safetensors",
            "client": "client.toml",
            "attack": "dlg",
            "iterations": 150,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def found(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return run_audit(asked(truth="truth.npz"))


def test_the_picture_comes_back_and_the_wrong_update_gives_none(found):
    report = found.report
    assert report["summary"]["psnr_median"] > 30
    assert report["evidence"]["unexplained"] < 0.01 * report["control"]["unexplained"]
    assert report["evidence"]["unexplained"] < report["evidence"]["unexplained_grey"]
    assert report["control"]["agreement"] < 20
    told = zip(report["convergence"], ("evidence", "control"), strict=True)
    for one, name in told:
        assert one["starts"][-1] == len(report[name]["scores"])
        assert one["best"][-1] == pytest.approx(report[name]["score"], rel=1e-5)
    assert "recovered" in judge(report).headline
    json.dumps(report, allow_nan=False)


def test_without_the_truth_the_verdict_says_so(found):
    report = {**found.report, "truth": None, "examples": [], "summary": {}}
    verdict = judge(report)
    assert "very likely" in verdict.headline
    assert "Nobody held these pictures against the truth" in verdict.details[0]


def evidence(**changes):
    values = {"unexplained": 1e-4, "unexplained_grey": 0.3, "agreement": 40.0}
    return {**values, "status": "OK", **changes}


@pytest.mark.parametrize(
    ("own", "control", "words"),
    [
        ({}, {"unexplained": 0.9}, "very likely"),
        ({"agreement": 18.0}, {"unexplained": 0.9}, "weak evidence"),
        ({"unexplained": 0.03}, {"unexplained": 0.9}, "weak evidence"),
        ({}, {"unexplained": 1e-3}, "weak evidence"),
        ({"agreement": None}, {"unexplained": 0.9}, "needs the truth"),
        ({"agreement": 9.0}, {"unexplained": 0.9}, "found nothing"),
        ({"unexplained": 0.29}, {"unexplained": 0.9}, "found nothing"),
        ({}, {"unexplained": 1e-4}, "found nothing"),
        ({"status": "DIVERGED"}, {"unexplained": 0.9}, "found nothing"),
        ({"unexplained": None}, {"unexplained": 0.9}, "found nothing"),
    ],
)
def test_each_kind_of_evidence_can_speak_against_it(found, own, control, words):
    report = {**found.report, "truth": None, "examples": [], "summary": {}}
    report |= {"evidence": evidence(**own), "control": evidence(**control)}
    assert words in judge(report).headline


def test_the_page_shows_what_was_said_and_checked(found, tmp_path):
    page = write_report(found, tmp_path / "out").read_text("utf-8")
    for words in (
        "body.3.weight",
        "flatten of 8 channels",
        "learning_rate",
        "rank: ok",
    ):
        assert words in page
    assert Page(page).runs_nothing_of_others()
    assert (tmp_path / "out" / "pictures" / "example-00000.png").exists()
    assert "not checked against the model in PyTorch" in page


def test_hostile_words_are_escaped(found):
    report = {**found.report, "model": "<script>alert(1)</script>"}
    result = type(found)(report, found.best, found.curves)
    assert Page(render(result, judge(report))).runs_nothing_of_others()


def test_a_defence_is_faced_by_two_attackers(folder):
    text = Path("client.toml").read_text() + 'defenses = ["pruning:rate=0.5"]\n'
    Path("defended.toml").write_text(text)
    before, after = (
        __import__("jaxinv").read_tensors(f"{n}.safetensors")
        for n in ("before", "after")
    )
    pruned = {}
    for name, values in after.items():
        delta = values - before[name]
        kept = np.abs(delta) >= np.median(np.abs(delta))
        pruned[name] = before[name] + np.where(kept, delta, 0)
    np.savez("pruned.npz", **pruned)
    config = asked(
        update="pruned.npz", client="defended.toml", iterations=60, restarts=2
    )
    report = run_audit(config).report
    assert [one["name"] for one in report["attackers"]] == ["blind", "adaptive"]
    adaptive = report["attackers"][1]["evidence"]
    assert adaptive["unexplained"] < report["attackers"][0]["evidence"]["unexplained"]


def test_the_command_line_repeats_itself(tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["audit", "update", *WORDS.split(), "--out", out]) == 0
    printed = capsys.readouterr().out
    assert "very likely" in " ".join(printed.split()) and "changed" in printed
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    again = shlex.split(report["command"])[1:]
    assert cli._parser().parse_args(again).update == "after.safetensors"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--update nowhere.npz", "no such file"),
        ("--attack dgl", "did you mean"),
        ("--truth nowhere", "nowhere"),
        ("--client before.safetensors", "no readable TOML"),
        ("--set model.width=3", "model.width"),
        ("--update my_model.py", "of no format that is read"),
    ],
)
def test_what_is_wrong_gets_one_line(words, said, tmp_path, capsys):
    argv = ["audit", "update", *WORDS.split(), *words.split()]
    assert main([*argv, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if "error" in line]
    assert len(lines) == 1 and said in lines[0]
    assert "Traceback" not in error


def test_a_truth_of_another_shape_is_refused():
    np.savez("large.npz", x=np.zeros((3, 9, 9, 3), np.uint8), y=np.zeros(3, int))
    with pytest.raises(InputError, match=r"expected .8, 8, 3. as in client.toml"):
        run_audit(asked(truth="large.npz"))
