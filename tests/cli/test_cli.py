"""The command line: what it asks for, what it prints, and how it refuses."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import NASTY, example, fake_result

from jaxinv.audits import CASES, images
from jaxinv.audits.progress import Progress
from jaxinv.cli import main, running
from jaxinv.errors import InputError


@pytest.fixture(autouse=True)
def cached(monkeypatch):
    """How often the cache was turned on; a test must not write to the user's."""
    asked_for = []
    monkeypatch.setattr(running, "use_cache", lambda: asked_for.append(None))
    return asked_for


@pytest.fixture
def asked(monkeypatch):
    """Configs that the command line asked for; the audit itself is a fake."""
    configs = []

    def run_audit(config, *, on_progress=None):
        configs.append(config)
        if on_progress is not None:
            on_progress(Progress(0, 1, 0, 300, math.inf, "compile"))
            on_progress(Progress(0, 1, 300, 300, 2e-5, "run"))
        return fake_result()

    monkeypatch.setattr(images, "run_audit", run_audit)
    return configs


def refused(capsys, argv):
    """The one line that a bad command line gets."""
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("jaxinv: error: ")
    assert captured.err.count("\n") == 1
    assert captured.err.endswith("\n")
    return captured.err


def test_writes_a_report_and_says_where(asked, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["audit", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert f"Report: {out / 'report.html'}" in captured.out
    assert "were recovered so well" in captured.out
    assert "Deep Leakage from Gradients on lenet" in captured.out
    assert "compiling" in captured.err
    assert "batch 1 of 1, 100 %, score 2e-05" in captured.err
    assert json.loads((out / "report.json").read_text())["attack"] == "dlg"
    assert asked == [images.AuditConfig()]


def test_options_reach_the_audit(asked, tmp_path):
    words = (
        "audit images --target convnet --attack inverting_gradients --restarts 3 "
        "--iterations 20 --batch-size 2 --num-examples 6 --data somewhere --seed 7 "
        "--size 16 --withhold labels --grant batch_stats --set target.width=16 "
        "--set attack.tv=1e-3 --set attack.signed=true --set target.norm=group "
        "--set attack.box=None --normalise --halving --precision bfloat16 --quiet"
    )
    assert main([*words.split(), "--out", str(tmp_path)]) == 0
    assert asked == [
        images.AuditConfig(
            target="convnet",
            attack="inverting_gradients",
            restarts=3,
            iterations=20,
            batch_size=2,
            num_examples=6,
            data="somewhere",
            seed=7,
            withhold=("labels",),
            grant=("batch_stats",),
            size=16,
            normalise=True,
            halving=True,
            precision="bfloat16",
            target_options={"width": 16, "norm": "group"},
            attack_options={"tv": 1e-3, "signed": True, "box": None},
        )
    ]


def test_local_training_reaches_the_audit_and_the_command_that_repeats_it(
    asked, tmp_path
):
    words = "--local-lr 0.01 --local-steps 4 --local-batch 2 --local-optimizer momentum"
    argv = ["audit", "--batch-size", "4", "--quiet", "--out", str(tmp_path)]
    assert main([*argv, *words.split()]) == 0
    local = {"local_lr": 0.01, "local_steps": 4, "local_batch": 2}
    expected = images.AuditConfig(batch_size=4, **local, local_optimizer="momentum")
    assert asked == [expected]
    assert words in expected.command()
    assert main([*expected.command().split()[1:], "--out", str(tmp_path)]) == 0
    assert asked[1] == expected


LOCAL = {
    "--local-steps 2": "local_steps is 2 and local_lr None; expected local_lr too",
    "--local-epochs 3": "local_epochs is 3 and local_lr None; expected local_lr too",
    "--local-batch 1": "local_batch is 1 and local_lr None; expected local_lr too",
    "--local-optimizer adam": "local_optimizer is 'adam' and local_lr None",
    "--local-lr 0": "local training: learning_rate is 0.0; expected a positive number",
    "--local-lr nan": "learning_rate is nan; expected a positive number",
    "--local-lr much": "argument --local-lr: invalid float value: 'much'",
    "--local-lr 1 --local-steps 0": "argument --local-steps: '0' is no whole number",
    "--local-lr 1 --local-steps 2 --local-epochs 2": "epochs is 2 and local_steps 2;",
    "--local-lr 1 --local-batch 3": "local training: batch_size is 3; expected a",
    "--local-lr 1 --local-optimizer lion": "argument --local-optimizer: invalid choice",
}


@pytest.mark.parametrize("words", LOCAL)
def test_bad_local_training_is_one_line(words, asked, tmp_path, capsys):
    argv = ["audit", "--batch-size", "4", "--out", str(tmp_path), *words.split()]
    assert LOCAL[words] in refused(capsys, argv)
    assert not asked


def test_programs_are_kept_unless_told_not_to(asked, cached, tmp_path):
    words = ["audit", "--quiet", "--out", str(tmp_path)]
    assert main(words) == 0 and len(cached) == 1
    assert main([*words, "--no-cache"]) == 0 and len(cached) == 1


def test_quiet(asked, tmp_path, capsys):
    assert main(["audit", "--quiet", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr() == ("", "")


def test_markup_and_control_characters_are_harmless(monkeypatch, tmp_path, capsys):
    names = ("[red]x[/red]", "[/]", NASTY)
    result = fake_result([example(i, class_true=n) for i, n in enumerate(names)])
    monkeypatch.setattr(images, "run_audit", lambda config, **_: result)
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["audit", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in names)


def test_interrupted(monkeypatch, tmp_path, capsys):
    result = fake_result(interrupted=True)
    monkeypatch.setattr(images, "run_audit", lambda config, **_: result)
    assert main(["audit", "--out", str(tmp_path)]) == 130
    assert "stopped early" in capsys.readouterr().err
    assert json.loads((tmp_path / "report.json").read_text())["interrupted"]


def test_interrupted_before_anything(monkeypatch, tmp_path, capsys):
    def run_audit(config, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(images, "run_audit", run_audit)
    assert main(["audit", "--out", str(tmp_path)]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("", "COMMAND"),
        ("adit", "invalid choice: 'adit'"),
        ("audit --restarts 0", "--restarts: '0' is no whole number from 1"),
        ("audit --restarts 1.5", "--restarts: '1.5'"),
        ("audit --iterations 0", "--iterations: '0'"),
        ("audit --iterations 99999999999", "--iterations: '99999999999'"),
        ("audit --batch-size -1", "--batch-size: '-1'"),
        ("audit --num-examples x", "--num-examples: 'x'"),
        ("audit --seed -1", "--seed: '-1' is no whole number from 0"),
        ("audit --size 0", "--size: '0'"),
        ("audit --withhold images", "--withhold: invalid choice: 'images'"),
        ("audit --grant labels --withhold labels", "labels is both granted and"),
        ("audit --set width=3", "--set: 'width=3' is not of the form target.NAME"),
        ("audit --set target.width", "--set: 'target.width' is not of the form"),
        ("audit --set target.a-b=1", "--set: 'target.a-b=1' is not of the form"),
        ("audit images --restart 3", "unrecognized arguments: --restart"),
        ("audit --out", "--out: expected one argument"),
        ("list --jsn", "unrecognized arguments: --jsn"),
    ],
)
def test_bad_arguments(asked, capsys, argv, says):
    assert says in refused(capsys, argv.split())
    assert not asked


def test_bad_folder_before_the_work(asked, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    said = refused(capsys, ["audit", "--out", str(tmp_path / "file" / "out")])
    assert "out is" in said
    assert not asked


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("x is 3;\n  expected 4\x1b[31m"), "x is 3; expected 4?[31m"),
        (OSError(28, "No space left on device", "a\nb"), "'a\\nb': No space left"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (OSError("odd"), "odd"),
    ],
)
def test_errors_on_one_line(monkeypatch, capsys, tmp_path, error, line):
    def run_audit(config, **_):
        raise error

    monkeypatch.setattr(images, "run_audit", run_audit)
    assert line in refused(capsys, ["audit", "--out", str(tmp_path)])


def test_defects_keep_their_traceback(monkeypatch, tmp_path):
    def run_audit(config, **_):
        raise ZeroDivisionError

    monkeypatch.setattr(images, "run_audit", run_audit)
    with pytest.raises(ZeroDivisionError):
        main(["audit", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("audit imags", "case is 'imags'; did you mean images?"),
        ("audit --target lenett", "lenet"),
        ("audit --attack dgl", "dlg"),
        ("audit --data /nowhere/at/all", "/nowhere/at/all"),
        ("audit --set target.widht=3", "widht"),
        ("audit --set attack.itrations=3", "itrations"),
    ],
)
def test_unknown_names_get_the_nearest(capsys, tmp_path, argv, says):
    argv = [*argv.split(), "--quiet", "--num-examples", "1", "--restarts", "1"]
    assert says in refused(capsys, [*argv, "--out", str(tmp_path / "out")])
    assert not list(tmp_path.iterdir())


def test_list(capsys, monkeypatch):
    from jaxinv.attacks import ATTACKS
    from jaxinv.attacks.labels import LABEL_RULES
    from jaxinv.models import MODELS

    monkeypatch.setenv("COLUMNS", "200")
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert main(["list", "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)
    assert list(tables["cases"]) == list(CASES)
    assert list(tables["targets"]) == list(MODELS)
    assert list(tables["attacks"]) == list(ATTACKS)
    assert list(tables["label_rules"]) == list(LABEL_RULES)
    for rows in tables.values():
        for name, row in rows.items():
            assert name in text
            assert all(row.values())


def run(*argv, cwd, **changes):
    return subprocess.run(
        [sys.executable, "-m", "jaxinv", *argv],
        cwd=cwd,
        env={**os.environ, "XDG_CACHE_HOME": str(cwd / "cache"), **changes},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_version_and_help_from_elsewhere(tmp_path):
    version = run("--version", cwd=tmp_path)
    assert version.returncode == 0
    assert re.fullmatch(r"jaxinv \d+\.\d+\S*\n", version.stdout)
    # Also on a terminal that can spell nothing but ASCII.
    for words, says in (("audit", list(CASES)), ("audit images", ["--batch-size"])):
        words = [*words.split(), "--help"]
        usage = run(*words, cwd=tmp_path, PYTHONIOENCODING="ascii")
        assert usage.returncode == 0
        assert all(f" {name} " in usage.stdout for name in says)
        assert usage.stderr == ""


def test_a_real_audit_in_a_process(tmp_path):
    pytest.importorskip("skimage", reason="the embedded photographs need it")
    words = "audit --target mlp --attack linear_layer --num-examples 2"
    done = run(*words.split(), cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    for noise in ("Traceback", "Warning", "WARNING", "No GPU"):
        assert noise not in done.stderr
    # The first layer of this model gives its input away.
    assert "All 2 images were recovered practically exactly." in done.stdout
    assert str(Path("jaxinv-out") / "report.html") in done.stdout
    report = json.loads((tmp_path / "jaxinv-out" / "report.json").read_text())
    assert [e["status"] for e in report["examples"]] == ["OK", "OK"]
    page = (tmp_path / "jaxinv-out" / "report.html").read_text("utf-8")
    assert page.count("data:image/png") == 8
    assert "the attack has no steps" in page
