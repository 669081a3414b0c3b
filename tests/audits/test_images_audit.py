"""The audit end to end, on pictures small enough to attack in seconds."""

import json
import os
import shlex
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv import attacks, cli, metrics, models
from jaxinv.attacks.base import Attack
from jaxinv.audits.images import AuditConfig, run_audit
from jaxinv.client import simulate
from jaxinv.errors import InputError, KnowledgeError
from jaxinv.reports.images import judge as verdict
from jaxinv.reports.images import render
from jaxinv.target import Batch, Spec

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A file of 40 smooth pictures, 12 by 12, four classes."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(size=(40, 4, 4, 3))
    fine = np.kron(coarse, np.ones((1, 3, 3, 1)))
    path = tmp_path_factory.mktemp("data") / "pictures.npz"
    labels = np.arange(40) % 4
    np.savez(path, x=np.round(fine * 255).astype(np.uint8), y=labels)
    return str(path)


@pytest.fixture(scope="module")
def exact(data):
    """An audit by a closed form that recovers everything."""
    return run_audit(AuditConfig(attack="linear_layer", num_examples=6, data=data))


def test_a_closed_form_recovers_every_example(exact):
    assert exact.report["summary"]["psnr_median"] > 45
    assert exact.report["summary"]["identified"] == 1
    assert exact.report["summary"]["label_accuracy"] == 1
    assert [e["index"] for e in exact.report["examples"]] == list(range(6))
    assert not exact.report["interrupted"]


def test_the_report_has_what_is_promised(exact):
    promised = """case attack defense knowledge seed restarts iterations batch_size
        device versions compile_s run_s restart_iterations_per_s examples""".split()
    assert exact.report.keys() >= set(promised)
    assert exact.report["examples"][0].keys() >= set(
        "psnr ssim mse label_true label_found score status oracle_psnr".split()
    )
    json.dumps(exact.report, allow_nan=False)


def test_the_wrong_update_recovers_nothing(exact, data):
    """Each picture against the next image's truth: identified no better than luck."""
    pool = jnp.asarray(np.load(data)["x"], jnp.float32) / 255
    found = jnp.stack([jnp.asarray(p.found, jnp.float32) / 255 for p in exact.pictures])
    wrong = jnp.roll(jnp.arange(6), 1)
    assert (metrics.identifiability(found, pool, wrong) > 0).all()
    assert (metrics.psnr(pool[wrong], found) < 15).all()


def test_the_order_within_a_batch_does_not_matter(data):
    """Examples are aligned with the truth before they are judged."""
    config = AuditConfig(attack="linear_layer", num_examples=4, batch_size=2, data=data)
    report = run_audit(config).report
    assert [e["index"] for e in report["examples"]] == [0, 1, 2, 3]
    assert all(e["status"] == "OK" and e["psnr"] > 45 for e in report["examples"])
    assert report["summary"]["label_accuracy"] == 1


def test_an_iterative_attack_reports_curves_and_an_oracle_no_worse(data):
    seen = []
    config = AuditConfig(restarts=2, iterations=60, num_examples=2, data=data)
    result = run_audit(config, on_progress=seen.append)
    assert result.report["target"] == "lenet"
    for curve in result.curves:
        assert curve.steps[-1] == 60
        assert (np.diff(curve.score) <= 0).all()
        assert curve.restart_scores.shape == (2,)
        # The first one kept is the one that was chosen; the oracle is among them.
        example = result.report["examples"][curve.batch]
        assert curve.kept.shape == (2, 2)
        assert curve.kept[0] == pytest.approx([example["score"], example["psnr"]])
        assert curve.kept[:, 1].max() == pytest.approx(example["oracle_psnr"])
        told = result.report["convergence"][curve.batch]
        assert told["steps"][-1] == 60 and set(told["starts"]) == {2}
        assert told["best"][-1] == pytest.approx(example["score"], rel=1e-5)
        middle = np.median(curve.restart_scores)
        assert told["median"][-1] == pytest.approx(middle, rel=1e-5)
    for example in result.report["examples"]:
        assert example["oracle_psnr"] >= example["psnr"] - 1e-4
        assert example["score"] == pytest.approx(
            min(result.curves[example["index"]].restart_scores), rel=1e-6
        )
    assert {now.phase for now in seen} == {"compile", "run"}
    assert seen[-1].step == seen[-1].num_steps == 60


def test_local_training_is_attacked_through_its_steps(data):
    """New weights come back; the attacker trains as the client did."""
    asked = {"restarts": 1, "iterations": 400, "num_examples": 2, "data": data}
    local = {"local_lr": 0.1, "local_steps": 3, "local_batch": 1}
    result = run_audit(AuditConfig(**asked, batch_size=2, **local))
    report = result.report
    assert report["knowledge"] == ["labels", "local_training"]
    assert report["settings"]["local_steps"] == 3
    assert all(e["status"] == "OK" for e in report["examples"])
    assert report["examples"][0]["score"] < 1e-3
    page = render(result, verdict(report))
    assert "how the client trains on its own" in page


def test_a_closed_form_reads_one_local_step_and_refuses_more(data):
    asked = {"attack": "linear_layer", "num_examples": 1, "data": data}
    report = run_audit(AuditConfig(**asked, local_lr=0.5)).report
    assert report["summary"]["psnr_median"] > 30
    with pytest.raises(InputError, match="local_training has 2 steps of 1 examples;"):
        run_audit(AuditConfig(**asked, local_lr=0.5, local_steps=2))


def test_halving_is_reported_with_the_work_it_saved(data):
    asked = {"restarts": 4, "iterations": 40, "num_examples": 1, "data": data}
    report = run_audit(AuditConfig(**asked, halving=True, precision="float64")).report
    # Two of four go on after 5 steps, one after 10, and that one to the end.
    assert report["restart_iterations"] == 2 * 5 + 10 + 40
    assert report["restart_iterations_asked"] == 4 * 40
    told = report["convergence"][0]
    left = [4 if step <= 5 else 2 if step <= 10 else 1 for step in told["steps"]]
    assert told["starts"] == left
    assert "--halving --precision float64" in report["command"]
    assert report["examples"][0]["status"] == "OK"


def test_an_interrupt_keeps_what_was_done(data):
    def stop(now):
        if now.part == 1 and now.step >= 10:
            raise KeyboardInterrupt

    config = AuditConfig(restarts=1, iterations=60, num_examples=4, data=data)
    report = run_audit(config, on_progress=stop).report
    assert report["interrupted"]
    assert [e["status"] for e in report["examples"]] == ["OK", "INTERRUPTED"]
    assert all(np.isfinite(e["psnr"]) for e in report["examples"])


def test_ctrl_c_between_two_attacks_keeps_the_first(data):
    def stop(now):
        if now.part == 1 and now.phase == "compile":
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    config = AuditConfig(attack="linear_layer", num_examples=3, data=data)
    report = run_audit(config, on_progress=stop).report
    assert signal.getsignal(signal.SIGINT) is before
    assert report["interrupted"]
    assert [e["index"] for e in report["examples"]] == [0]


def test_lpips_is_reported_where_weights_are_supplied(data, tmp_path):
    rng = np.random.default_rng(0)
    layers = {
        "1.0": (64, 3, 11, 11),
        "2.3": (192, 64, 5, 5),
        "3.6": (384, 192, 3, 3),
        "4.8": (256, 384, 3, 3),
        "5.10": (256, 256, 3, 3),
    }
    state = {}
    for i, (name, shape) in enumerate(layers.items()):
        scale = np.sqrt(2 / np.prod(shape[1:]))
        state[f"net.slice{name}.weight"] = rng.normal(size=shape) * scale
        state[f"net.slice{name}.bias"] = np.zeros(shape[0])
        state[f"lin{i}.model.1.weight"] = np.ones((1, shape[0], 1, 1))
    path = tmp_path / "weights.npz"
    np.savez(path, **{name: np.float32(array) for name, array in state.items()})
    config = AuditConfig(
        attack="linear_layer", num_examples=1, data=data, lpips=str(path)
    )
    result = run_audit(config)
    (example,) = result.report["examples"]
    assert 0 <= example["lpips"] < 1e-3
    assert result.report["summary"]["lpips_mean"] == example["lpips"]
    page = render(result, verdict(result.report))
    assert ">LPIPS</th>" in page


def test_what_is_withheld_is_not_in_the_observation():
    target = models.build("mlp", Spec((4, 4, 1), 3), widths=(8,))
    params = target.init(jax.random.key(0))
    batch = Batch(jnp.ones((1, 4, 4, 1)), jnp.array([2]))
    granted = simulate(jax.random.key(0), target, params, batch)
    hidden = simulate(jax.random.key(0), target, params, batch, grant=())
    assert granted.known.granted() == ("labels",)
    assert hidden.known.granted() == ()
    attack = attacks.build("dlg", target, num_steps=1, labels="known")
    assert isinstance(attack, Attack)
    with pytest.raises(KnowledgeError, match=r"labels is needed and not granted"):
        attack.init(jax.random.key(0), hidden)
    # The attack's own way, without being told.
    attacks.build("idlg", target, num_steps=1).init(jax.random.key(0), hidden)


def test_batch_statistics_of_a_model_without_any_are_refused(data):
    with pytest.raises(InputError, match="no batch-norm layer"):
        run_audit(AuditConfig(grant=("batch_stats",), num_examples=1, data=data))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"attack": "dgl"}, "did you mean dlg"),
        ({"target": "lennet"}, "did you mean lenet"),
        ({"restarts": 0}, "restarts is 0"),
        ({"iterations": 0}, "iterations is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"num_examples": 41}, "num_examples is 41; the data holds 40"),
        ({"seed": -1}, "seed is -1"),
        ({"grant": ("label",)}, "did you mean labels"),
        ({"grant": ("labels",), "withhold": ("labels",)}, "both granted and withheld"),
        ({"attack": "rgap", "iterations": 5}, "takes no steps"),
        ({"attack": "rgap", "batch_size": 2, "num_examples": 2}, "a single example"),
        ({"attack": "rgap", "target": "resnet18"}, "chain"),
        ({"attack": "linear_layer", "target": "lenet"}, "layer"),
        ({"attack_options": {"memory": 3}}, "did you mean memory_size"),
        ({"target_options": {"width": 3}}, "unknown to lenet"),
    ],
)
def test_wrong_settings_are_named_in_one_line(data, settings, says):
    with pytest.raises(InputError, match=says) as refused:
        run_audit(AuditConfig(**{"data": data, "num_examples": 1, **settings}))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "config",
    [
        AuditConfig(),
        AuditConfig(
            attack="inverting_gradients",
            target="convnet",
            restarts=3,
            iterations=7,
            batch_size=2,
            num_examples=5,
            data="a folder/with 'quotes'",
            seed=3,
            withhold=("labels",),
            grant=("batch_stats",),
            size=16,
            normalise=True,
            target_options={"width": 8},
            attack_options={"tv": 0.5, "signed": None},
        ),
    ],
)
def test_the_command_in_the_report_repeats_the_audit(config, monkeypatch, tmp_path):
    caught = []

    def pretend(config, on_progress=None):
        caught.append(config)
        raise InputError("enough")

    monkeypatch.setattr("jaxinv.audits.images.run_audit", pretend)
    program, *argv = shlex.split(config.command())
    assert program == "jaxinv"
    assert cli.main([*argv, "--out", str(tmp_path / "out")]) == 2
    assert caught == [config]


def test_who_knows_a_defence_stands_beside_who_does_not(data):
    config = AuditConfig(
        target="mlp",
        attack="cosine_lbfgs",
        num_examples=2,
        restarts=1,
        iterations=20,
        data=data,
        defense=("pruning:rate=0.5,scope=layer",),
        target_options={"widths": [8]},
    )
    report = run_audit(config).report
    assert report["defense"] == "pruning:rate=0.5,scope=layer"
    assert report["defenses"][0]["options"] == {"rate": 0.5, "scope": "layer"}
    blind, adaptive = report["attackers"]
    assert (blind["name"], adaptive["name"]) == ("blind", "adaptive")
    assert "visible" in adaptive["knowledge"] and "visible" not in blind["knowledge"]
    # They minimise another distance, so they end elsewhere; the stronger one is shown.
    assert blind["psnr"] != adaptive["psnr"]
    best = max(report["attackers"], key=lambda one: np.mean(one["psnr"]))
    assert report["attacker"] == best["name"]
    assert [e["psnr"] for e in report["examples"]] == best["psnr"]
    page = render(run_audit(config), verdict(report))
    assert "Who knows the defence" in page and "Gradient pruning" in page
    json.dumps(report, allow_nan=False)


def test_noise_is_the_same_to_who_knows_it_and_stops_a_closed_form(data):
    def psnr(*defense):
        config = AuditConfig(
            attack="linear_layer", num_examples=3, data=data, defense=defense
        )
        report = run_audit(config).report
        assert [one["name"] for one in report["attackers"]] == ["blind"]
        return report["summary"]["psnr_mean"]

    assert psnr() > 45 > 20 > psnr("gaussian_noise:std=1")


def test_an_epsilon_is_in_the_report_where_it_was_asked_for(data):
    config = AuditConfig(
        attack="linear_layer",
        num_examples=1,
        data=data,
        defense=("dp_sgd:noise_multiplier=2.0",),
        sampling_rate=0.01,
        dp_rounds=100,
    )
    spent = run_audit(config).report["epsilon"]
    assert 0.1 < spent["epsilon"] < 1 and spent["delta"] == 1e-5


@pytest.mark.parametrize(
    "options, message",
    [
        ({"defense": ("sgn",)}, "did you mean sign"),
        ({"defense": ("gaussian_noise:std=-1",)}, "std is -1"),
        (
            {"sampling_rate": 0.1, "dp_rounds": 5},
            "an epsilon is stated of dp_sgd alone",
        ),
        ({"defense": ("dp_sgd",), "dp_rounds": 5}, "sampling_rate is None"),
        ({"defense": ("dp_sgd",), "sampling_rate": 0.1}, "dp_rounds is None"),
        ({"draws": 0}, "draws is 0"),
    ],
)
def test_wrong_defences_get_one_line(options, message, data):
    with pytest.raises(InputError, match=message) as refusal:
        run_audit(AuditConfig(attack="linear_layer", data=data, **options))
    assert "\n" not in str(refusal.value)
