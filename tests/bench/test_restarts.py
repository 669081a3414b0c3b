"""The speed bench runs end to end, and what it counts is right."""

import json
import math

import jax
import numpy as np
import pytest

from bench.ceiling import forward_flops
from bench.problem import Case, make_problem
from jaxinv.target import Batch

torch = pytest.importorskip("torch", reason="torch is not installed")
from bench import restarts, torch_batched, torch_peer  # noqa: E402
from bench.contenders import check_agreement  # noqa: E402
from bench.plot_restarts import plot  # noqa: E402
from bench.torch_models import build_twin  # noqa: E402

torch.set_num_threads(1)

KEYS = set(
    "impl target device restarts batch width image_size precision iterations "
    "restart_iterations_per_s spread ratio_to_peer ratio_to_batched compile_s peak_mb "
    "chunk measured_restarts threads flops_per_iteration ceiling_gflops ceiling_share "
    "match_jaxinv match_peer repeats seed command machine load_average "
    "versions".split()
)
POSITIVE = (
    "restart_iterations_per_s",
    "ceiling_gflops",
    "ceiling_share",
    "flops_per_iteration",
    "chunk",
    "measured_restarts",
    "match_jaxinv",
    "match_peer",
)
QUICK = "--size 8 --iterations 3 --repeats 2 --peer-seconds 0.01 --peer-threads 1"


def case(target, size, batch=2, width=None):
    return Case(target, "cpu", 1, batch, width, size, "default", 3)


def run(tmp_path, *argv):
    path = tmp_path / "rows.json"
    assert restarts.main([*argv, *QUICK.split(), "--json", str(path)]) == 0
    rows = json.loads(path.read_text("utf-8"))
    for row in rows:
        assert row.keys() == KEYS
        for key in POSITIVE:
            assert 0 < row[key] < math.inf, key
        low, high = row["spread"]
        assert 0 < low <= row["restart_iterations_per_s"] <= high < math.inf
        assert row["match_jaxinv"] == pytest.approx(row["match_peer"], rel=1e-3)
        assert row["command"].startswith("python -m bench restarts --target")
        assert row["versions"]["torch"] == torch.__version__
        flops = row["flops_per_iteration"] * row["restart_iterations_per_s"]
        share = flops / row["ceiling_gflops"] / 1e9
        assert row["ceiling_share"] == pytest.approx(share)
    return rows


def test_mlp_with_both_peers_and_the_plot(tmp_path):
    picture = tmp_path / "rows.png"
    rows = run(
        tmp_path,
        *"--target mlp --restarts 2 --batched-peer --width 8".split(),
        *("--plot", str(picture)),
    )
    impls = ["jaxinv", "torch eager", "torch batched"]
    assert [row["impl"] for row in rows] == impls
    ours, eager, batched = (row["restart_iterations_per_s"] for row in rows)
    assert rows[0]["ratio_to_peer"] == pytest.approx(ours / eager)
    assert rows[0]["ratio_to_batched"] == pytest.approx(ours / batched)
    assert rows[0]["compile_s"] > 0 and rows[1]["compile_s"] is None
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    # The file that was written is shown and drawn again.
    again = tmp_path / "again.png"
    shown = ["--from", str(tmp_path / "rows.json"), "--plot", str(again)]
    assert restarts.main(shown) == 0
    assert again.read_bytes() == picture.read_bytes()


def test_lenet_in_float64(tmp_path, monkeypatch):
    monkeypatch.setattr(restarts, "matmul_gflops", lambda device: 100.0)
    rows = run(tmp_path, *"--target lenet --precision float64".split())
    assert [row["impl"] for row in rows] == ["jaxinv", "torch eager"]
    # In float64 the two sides differ by rounding alone.
    assert rows[0]["match_jaxinv"] == pytest.approx(rows[0]["match_peer"], rel=1e-9)
    assert rows[0]["width"] is None and not jax.config.read("jax_enable_x64")


def test_every_combination_is_a_case():
    parser = restarts._parser()
    asked = "--target mlp --restarts 1 2 --batch 3 --width 4 5 --precision float32"
    cases = restarts._cases(parser, parser.parse_args(asked.split()))
    assert [(c.width, c.restarts) for c in cases] == [(4, 1), (4, 2), (5, 1), (5, 2)]
    assert {(c.batch, c.image_size, c.iterations) for c in cases} == {(3, 32, 200)}


def test_flops_of_the_mlp_are_those_counted_by_hand():
    problem = make_problem(case("mlp", 8, batch=3, width=16), 0)
    by_hand = 2 * 3 * (8 * 8 * 3 * 16 + 16 * 16 + 16 * 10)
    assert forward_flops(problem.target, problem.params, problem.truth) == by_hand


@pytest.mark.parametrize(
    ("target", "size", "width"),
    [("convnet", 12, 4), ("lenet", 9, None), ("resnet18", 8, 4)],
)
def test_flops_of_convolutions_are_those_that_pytorch_counts(target, size, width):
    from torch.utils.flop_counter import FlopCounterMode

    this = case(target, size, width=width)
    model = this.build()
    params = jax.eval_shape(model.init, jax.random.key(0))
    batch = jax.eval_shape(lambda: make_batch(model.spec))
    twin = build_twin(target, model.spec, **this.options())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        twin(torch.zeros(2, 3, size, size))
    assert forward_flops(model, params, batch) == counter.get_total_flops()


def make_batch(spec):
    return Batch(jax.numpy.zeros((2, *spec.shape)), jax.numpy.zeros(2, int))


def test_a_users_own_convnet_is_the_zoos():
    own, zoo = (make_problem(case(name, 12, width=8), 0) for name in ("own", "convnet"))
    jax.tree.map(np.testing.assert_array_equal, own.params, zoo.params)
    # The peer's twin is found by the name of the zoo.
    assert own.case == zoo.case
    assert forward_flops(*own[1:4]) == forward_flops(*zoo[1:4])
    # Nothing of the engine is in it: its convolutions and pools are XLA's own.
    jaxpr = str(jax.make_jaxpr(own.target.loss)(own.params, own.truth))
    assert jaxpr.count("conv_general_dilated[") == 8
    assert jaxpr.count("reduce_window_max[") == 2
    # As it is, and rewritten as its update was made.
    as_is = jax.jit(jax.value_and_grad(lambda p: own.target.loss(p, zoo.truth)))
    loss, slope = as_is(zoo.params)
    expected = jax.jit(zoo.target.loss)(zoo.params, zoo.truth)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    update = zoo.observation.round(0)[1]
    scale = max(float(abs(leaf).max()) for leaf in jax.tree.leaves(update))
    for found in (slope.params, own.observation.round(0)[1]):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * scale),
            found,
            update,
        )


def test_starts_together_end_where_they_end_one_by_one():
    rng = np.random.default_rng(0)
    this = case("convnet", 12, width=2)
    spec = this.build().spec
    torch.manual_seed(0)
    given = {
        "module": build_twin("convnet", spec, width=2).double(),
        "truth": rng.standard_normal((2, 12, 12, 3)),
        "labels": np.array([1, 7]),
        "box": tuple(np.asarray(b, np.float64) for b in spec.box()),
        "num_steps": 4,
        "learning_rate": 0.1,
        "tv": 0.01,
    }
    starts = rng.standard_normal((3, 2, 12, 12, 3))
    alone = [torch_peer.inverting_gradients(**given, start=x) for x in starts]
    found = torch_batched.inverting_gradients(**given, starts=starts, chunk=2)
    np.testing.assert_allclose(found.inputs, [r.inputs for r in alone], rtol=1e-6)
    np.testing.assert_allclose(found.scores, [r.score for r in alone], rtol=1e-6)
    assert not np.allclose(found.inputs, starts.clip(-1, 1))


def test_another_problem_is_noticed():
    check_agreement("torch eager", 0.5, 0.5004)
    with pytest.raises(SystemExit, match=r"0\.5 in jaxinv and 0\.501 in torch eager"):
        check_agreement("torch eager", 0.5, 0.501)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("", "--target is needed"),
        ("--target lenet --width 8", "--width 8: lenet has no such option"),
        ("--target convnet --size 8", "convnet expects (H, W, C)"),
        ("--target mlp --restarts 0", "invalid positive int value: '0'"),
        ("--target mlp --peer none --batched-peer", "contradicts --peer none"),
        ("--target mlp --device gpu", "JAX runs on cpu here"),
        ("--target mlp --json /nowhere/a.json", "there is no folder /nowhere"),
        ("--from /nowhere/a.json", "--from cannot be read"),
    ],
)
def test_wrong_arguments_are_refused(argv, message, capsys):
    if "gpu" in argv and jax.default_backend() == "gpu":
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit):
        restarts.main(argv.split())
    assert message in capsys.readouterr().err


def test_a_plot_of_everything_varied(tmp_path):
    rows = [
        {
            "impl": impl,
            "target": "convnet",
            "device": "cpu",
            "precision": "default",
            "restarts": num,
            "batch": batch,
            "width": 64,
            "image_size": 32,
            "restart_iterations_per_s": rate * num**0.5 / batch,
            "spread": [rate * num**0.5 / batch * f for f in (0.9, 1.1)],
        }
        for impl, rate in (("jaxinv", 20.0), ("torch eager", 9.0))
        for num in (1, 8, 64)
        for batch in (1, 4)
    ]
    # Another model, whose width is its own, is a line more and no panel more.
    rows += [row | {"target": "lenet", "width": None} for row in rows]
    plot(rows, tmp_path / "all.png")
    assert (tmp_path / "all.png").read_bytes()[:4] == b"\x89PNG"
