"""The kernels bench runs end to end, and its forms compute the same."""

import json
import math

import jax
import numpy as np
import pytest

from bench import kernels
from bench.candidates import Candidate, Form, candidates, span
from jaxinv.matching import cosine

KEYS = set(
    "candidate form shape part device scale ms spread compile_s least_bytes flops "
    "limit_ms share_of_limit share_of_step verdict bandwidth_gb_s ceiling_gflops "
    "repeats machine load_average command".split()
)
POSITIVE = (
    "ms least_bytes flops limit_ms share_of_limit bandwidth_gb_s ceiling_gflops "
    "compile_s"
).split()
TINY = {c.name: c for c in candidates("tiny", set(kernels.GROUPS))}


def numbers(tree):
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)])


def test_every_row_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "matmul_gflops", lambda device: 100.0)
    path = tmp_path / "kernels.json"
    argv = ["--scale", "tiny", "--repeats", "2", "--json", str(path)]
    assert kernels.main([*argv, "--only", "tv", "span", "spikes"]) == 0
    rows = json.loads(path.read_text("utf-8"))
    names = {row["candidate"] for row in rows}
    assert names == TINY.keys() - {"match"}
    for row in rows:
        assert row.keys() == KEYS
        for key in POSITIVE:
            assert 0 < row[key] < math.inf, key
        low, high = row["spread"]
        assert low <= row["ms"] <= high
        assert row["share_of_limit"] == pytest.approx(row["limit_ms"] / row["ms"])
        memory = row["least_bytes"] / row["bandwidth_gb_s"] / 1e6
        products = row["flops"] / row["ceiling_gflops"] / 1e6
        assert row["limit_ms"] == pytest.approx(max(memory, products))
        plain = row["form"] == TINY[row["candidate"]].forms[0].name
        assert row["verdict"].startswith(("kept: ", "worth a kernel: ")) == plain


def test_a_step_and_its_parts(monkeypatch):
    monkeypatch.setattr(kernels, "matmul_gflops", lambda device: 100.0)
    args = type("Args", (), {"scale": "tiny", "repeats": 1, "device": "cpu"})
    rows = kernels._step_rows("mlp", args, kernels.Limits(10.0, 100.0))
    assert [row["part"] for row in rows] == [
        "",
        *("total variation", "match"),
        *("match", "total variation"),
    ]
    for row in rows:
        assert 0 < row["ms"] < math.inf and row["verdict"]
    for row in rows[3:]:
        assert row["share_of_step"] == pytest.approx(row["ms"] / rows[0]["ms"])


@pytest.mark.parametrize("name", TINY)
def test_all_forms_compute_the_same(name):
    plain, *others = (
        numbers(jax.jit(form.run)(*form.args)) for form in TINY[name].forms
    )
    assert others and np.ptp(plain) > 0
    for form, other in zip(TINY[name].forms[1:], others, strict=True):
        np.testing.assert_allclose(
            other, plain, rtol=1e-4, atol=1e-5 * abs(plain).max(), err_msg=form.name
        )


def test_the_match_is_that_of_float64():
    guess, observed = (
        [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)]
        for tree in TINY["match"].forms[0].args
    )
    g, u = np.concatenate(guess), np.concatenate(observed)
    expected = 1 - g @ u / np.linalg.norm(g) / np.linalg.norm(u)
    assert float(cosine()(guess, observed)) == pytest.approx(expected, rel=1e-5)
    for form in TINY["match"].forms:
        assert float(jax.jit(form.run)(*form.args)[0]) == pytest.approx(
            expected, rel=1e-5
        )


def test_squares_lose_half_the_digits_of_a_distance():
    forms = {form.name: form for form in span(64, 16, 4).forms}
    _, basis = forms["|x|^2 - |x Q|^2"].args
    inside = np.asarray(jax.random.normal(jax.random.key(7), (32, 4)) @ basis.T)
    far = np.linalg.norm(inside, axis=1)
    exact, squares = (
        np.max(np.asarray(jax.jit(forms[name].run)(inside, basis)) / far)
        for name in ("x - (x Q) Q^T", "|x|^2 - |x Q|^2")
    )
    assert exact < 1e-6 and 1e-5 < squares < 1e-2


def test_what_is_timed_is_run_each_time():
    calls = []

    def count(x):
        jax.debug.callback(lambda: calls.append(1))
        return x + 1.0

    run, _ = kernels.repeated(count, (np.float32(1.0),))
    assert float(run(5)) == 2.0
    jax.effects_barrier()
    assert len(calls) == 5


@pytest.mark.parametrize(
    ("times", "step", "expected"),
    [
        ((1.0, 1.2), None, "kept: plain form reaches 80% of the limit"),
        ((4.0, 5.0), None, "worth a kernel: plain form reaches 20% of the limit"),
        ((4.0, 1.0), None, "kept: plain form reaches 20% of the limit, 'b' 80%"),
        (
            (4.0, 5.0),
            0.01,
            "kept: plain form reaches 20% of the limit; a kernel at the limit would "
            "save 0.8% of a step more",
        ),
    ],
)
def test_verdicts(times, step, expected):
    forms = [Form(name, lambda: None, ()) for name in "ab"]
    rows = [
        {"form": form.name, "ms": ms, "share_of_limit": 0.8 / ms}
        for form, ms in zip(forms, times, strict=True)
    ]
    kernels._judge(rows, Candidate("c", "", forms, 1.0, 1.0), step)
    assert rows[0]["verdict"] == expected
    assert rows[1]["verdict"].endswith("times as fast as the plain form")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--repeats 0", "--repeats is 0; expected 1 or more"),
        ("--only lstm", "invalid choice: 'lstm'"),
        ("--json /nowhere/a.json", "there is no folder /nowhere"),
    ],
)
def test_wrong_arguments_are_refused(argv, message, capsys):
    with pytest.raises(SystemExit):
        kernels.main(argv.split())
    assert message in capsys.readouterr().err
