"""An audit of graphs goes on where one of them fails; training of clients; tasks."""

import jax
import numpy as np
import pytest
from fake_graphs import recovered, turned

from jaxinv.attacks.grain import Certificate
from jaxinv.audits.graphs import MoleculesConfig, audit, run_audit
from jaxinv.audits.graphs.clients import Clients
from jaxinv.audits.graphs.sources import source_of
from jaxinv.cli import main, running
from jaxinv.errors import InputError
from jaxinv.models.graph_networks import build_graph_model
from jaxinv.reports.graphs import judge, render

pytestmark = pytest.mark.usefixtures("compiled_quickly")


SMALL = {"num": 3, "width": 8, "controls": 0, "model_options": {"readout": [8]}}


def attacks(monkeypatch, attack):
    """Puts `(graph index) -> result` in the place of the attack; what it was shown."""
    seen = []

    def grain(model, observation, *, domain, limits):
        seen.append(observation)
        return attack(len(seen) - 1)

    monkeypatch.setattr(audit, "grain", grain)
    return seen


def test_an_error_on_one_graph_is_a_row_with_the_reason(monkeypatch):
    truth = source_of(MoleculesConfig(**SMALL)).graphs

    def attack(index):
        if index == 1:
            raise FloatingPointError("SVD did\nnot converge" + 400 * "x")
        return recovered(Certificate.UNIQUE, [turned(truth[index])])

    attacks(monkeypatch, attack)
    result = run_audit(MoleculesConfig(**SMALL))
    rows = result.report["graphs"]
    assert [row["exact"] for row in rows] == [True, False, True]
    assert rows[1]["certificate"] == "gave up" and rows[1]["stage"] == "error"
    reason = rows[1]["reason"]
    assert reason.startswith("FloatingPointError: SVD did not converge")
    assert "\n" not in reason and "test_graphs_audit_failures.py:" in reason
    assert len(reason) < 400 and result.report["summary"]["failed"] == 1
    verdict = judge(result.report)
    assert "On 1 of 3 molecules the attack broke off" in " ".join(verdict.details)
    assert "SVD did not converge" in render(result, verdict)


def test_what_is_wrong_for_every_graph_is_refused(monkeypatch):
    def attack(index):
        raise InputError("degree is None")

    attacks(monkeypatch, attack)
    with pytest.raises(InputError, match="degree is None"):
        run_audit(MoleculesConfig(**SMALL))


def test_an_update_that_overflowed_is_a_row(monkeypatch):
    attacks(monkeypatch, lambda index: pytest.fail("there is nothing to attack"))
    config = MoleculesConfig(**SMALL, local_lr=1e30, local_steps=5)
    for row in run_audit(config).report["graphs"]:
        assert row["certificate"] == "gave up" and row["stage"] == "observation"
        assert "NaN or infinite" in row["reason"] and "\n" not in row["reason"]


def test_clients_train_and_the_attacker_knows_how(monkeypatch):
    seen = attacks(monkeypatch, lambda index: recovered(Certificate.GAVE_UP))
    config = MoleculesConfig(**SMALL, local_lr=0.05, local_steps=3)
    result = run_audit(config)
    report = result.report
    assert "--local-lr 0.05 --local-steps 3" in report["command"]
    assert report["knowledge"][:4] == [
        *("parameters", "update", "vocabulary", "local_training")
    ]
    page = render(result, judge(report))
    assert "how its weights moved on one molecule" in page
    assert "3 steps of 0.05" in page
    for observation in seen:
        assert observation.sent == "delta"
        assert observation.known.local_training == config.local_training()
    # By hand: three steps down the gradient.
    source = source_of(config)
    model = build_graph_model("gcn", source.spec, width=8, readout=[8])
    params = before = model.init(jax.random.key(0))
    clients = Clients(model, noise=0.0, float16=False, local=config.local_training())
    delta = clients(jax.random.key(1), params, source.graphs[0])
    gradient = jax.jit(jax.grad(model.loss))
    for _ in range(3):
        slope = gradient(params, source.graphs[0])
        params = jax.tree.map(lambda p, g: p - 0.05 * g, params, slope)
    for mine, a, b in zip(*map(jax.tree.leaves, (delta, params, before)), strict=True):
        np.testing.assert_allclose(mine, a - b, atol=2e-6)


def test_labels_of_nodes_are_drawn_and_judged(monkeypatch):
    config = MoleculesConfig(**SMALL, task="node")
    source, again = source_of(config), source_of(config)
    assert source.spec.task == "node" and "random numbers" in source.about
    for one, other in zip(source.graphs, again.graphs, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.labels.shape == (one.num_nodes,) and one.labels.max() <= 1

    def attack(index):
        found = turned(source.graphs[index])
        labels = found.labels[::-1] if index else 1 - found.labels[::-1]
        return recovered(Certificate.UNIQUE, [found._replace(labels=labels)])

    attacks(monkeypatch, attack)
    report = run_audit(config).report
    assert [row["labels_right"] for row in report["graphs"]] == [False, True, True]
    assert "came with 2 of 3 molecules" in " ".join(judge(report).details)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--task", "edge"], "argument --task: invalid choice: 'edge'"),
        (["--local-steps", "3"], "local_steps is 3 and local_lr None"),
        (["--local-lr", "0"], "local_lr is 0.0; expected a positive number"),
        (["--activation", "tanh"], "activation is 'tanh'; expected one of gelu, relu"),
        (["--set", "model.readout=5"], "readout is 5; expected a list"),
        (["--set", "model.spec=5"], "option 'spec' is unknown to gcn"),
        (["--set", "model.heads=0", "--model", "gat"], "heads is 0; expected a posi"),
        (["--noise", "-1"], "noise is -1.0; expected a share of 0 or more"),
    ],
)
def test_what_cannot_be_asked_is_one_line(words, says, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(running, "use_cache", lambda: None)
    out = tmp_path / "out"
    assert main(["audit", "molecules", *words, "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaxinv: error: ") and says in said
    assert said.count("\n") == 1 and not out.exists()
