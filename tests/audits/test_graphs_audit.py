"""The audit of graphs end to end, on molecules small enough for seconds."""

import dataclasses
import json
import os
import shlex
import signal

import jax
import numpy as np
import pytest
from fake_graphs import recovered, turned

from jaxinv import cli
from jaxinv.attacks.grain import LIMITS, Certificate
from jaxinv.audits.graphs import (
    AuditResult,
    CitationsConfig,
    MoleculesConfig,
    audit,
    run_audit,
)
from jaxinv.audits.graphs.clients import arrived
from jaxinv.audits.graphs.generated import generated_network
from jaxinv.audits.graphs.sources import NUM, source_of
from jaxinv.data.graphs import KNOWN_MOLECULES, SIZE_MIX, citation_samples
from jaxinv.errors import InputError
from jaxinv.graph import ANY
from jaxinv.isomorphism import isomorphic
from jaxinv.reports.graphs import judge, render

NAME = "\"><img src=x onerror=alert('1')>.csv"
ALLENE, ETHANOL, ACETONE = "C=C=C", "CCO", "CC(C)=O"
SEED = 4


pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Settings with a csv of a hostile name and a row that is no molecule.

    The seed draws the first three. With the others every group of columns varies.
    """
    path = tmp_path_factory.mktemp("data") / NAME
    rows = [f"{ALLENE},1", f"{ETHANOL},0", "<script>,1", f"{ACETONE},1", "CC,"]
    rows += ["c1ccccc1,0", "C[C@H](N)C(=O)O,1", "C[N+](C)(C)C,1"]
    path.write_text("\n".join(["smiles,y", *rows]))
    return {
        "data": str(path),
        "num": 3,
        "seed": SEED,
        "width": 64,
        "controls": 2,
        "seconds": 100.0,
    }


@pytest.fixture(scope="module")
def exact(small):
    """The one audit here that really attacks."""
    seen = []
    result = run_audit(MoleculesConfig(**small), on_progress=seen.append)
    return result, seen


def test_one_gradient_gives_every_molecule_away(exact):
    report = exact[0].report
    smiles = {entry["smiles"] for entry in report["graphs"]}
    assert smiles == {ALLENE, ETHANOL, ACETONE}
    for entry in report["graphs"]:
        assert entry["exact"] and entry["in_class"] and not entry["wrong_unique"]
        assert entry["certificate"] == "unique" and entry["class_size"] == 1
        assert entry["distance"] < 1e-5 and entry["stage"] == "done"
        assert entry["gsm0"] == entry["gsm2"] == entry["edge_share"] == 1
        assert set(entry["stage_seconds"]) > {"node types", "spans", "assembly"}
        assert entry["seconds"] >= sum(entry["stage_seconds"].values())
    assert judge(report).headline == (
        "3 of 3 molecules were recovered exactly, each from one gradient; all are "
        "certified: no other molecule of the sizes looked at fits."
    )


def test_gradients_of_another_model_give_nothing(exact):
    """The negative control, on two of the graphs that were solved."""
    report = exact[0].report
    assert len(report["controls"]) == 2 and report["summary"]["controls_solved"] == 0
    for control in report["controls"]:
        assert control["certificate"] == "gave up" and not control["exact"]
        assert control["stage"] == "neighbourhoods" and control["reason"]
    assert "Negative control passed: 2 gradients" in " ".join(judge(report).details)


def test_progress_tells_every_part(exact):
    told = [(now.unit, now.part, now.num_parts, now.phase) for now in exact[1]]
    molecules = [("molecule", i, 3, "run") for i in range(3)]
    controls = [("control", i, 2, "run") for i in range(2)]
    assert told == [("molecule", 0, 3, "compile"), *molecules, *controls]


def test_the_report_has_what_is_promised(exact):
    report = exact[0].report
    assert report.keys() >= set(
        """case unit attack model knowledge withheld settings versions device compile_s
        run_s command dataset interrupted graphs controls summary""".split()
    )
    assert report["case"] == "molecules" and not report["interrupted"]
    assert "chemistry" in report["knowledge"]
    assert report["settings"]["num"] == 3 and report["settings"]["width"] == 64
    about = report["dataset"]["about"]
    assert about == "3 of 6 molecules; 1 row holds none that is readable"
    json.dumps(report, allow_nan=False)


def test_the_record_draws_the_page_again_and_a_hostile_name_is_escaped(exact):
    report = exact[0].report
    page = render(exact[0], judge(report))
    assert report["dataset"]["name"] == NAME
    assert "<img src=x" not in page and "&lt;img src=x" in page
    again = json.loads(json.dumps(report))
    assert render(AuditResult(again), judge(again)) == page


def faked(monkeypatch, attack):
    """Puts another attack in the place of the real one; `(graph index) -> result`."""
    calls = []

    def grain(model, observation, *, domain, limits):
        calls.append((observation, domain, limits))
        return attack(len(calls) - 1)

    monkeypatch.setattr(audit, "grain", grain)
    return calls


def nothing(index):
    return recovered(Certificate.GAVE_UP)


def test_an_interrupt_keeps_what_was_done(small, monkeypatch):
    truth = source_of(MoleculesConfig(**small)).graphs
    faked(monkeypatch, lambda i: recovered(Certificate.UNIQUE, [turned(truth[i])]))

    def stop(now):
        if now.part == 2:
            raise KeyboardInterrupt

    report = run_audit(MoleculesConfig(**small), on_progress=stop).report
    assert report["interrupted"] and report["controls"] == []
    assert [entry["exact"] for entry in report["graphs"]] == [True, True]
    assert "stopped early" in " ".join(judge(report).details)


def test_ctrl_c_ends_after_the_graph_under_attack(small, monkeypatch):
    def attack(index):
        os.kill(os.getpid(), signal.SIGINT)
        return nothing(index)

    faked(monkeypatch, attack)
    report = run_audit(MoleculesConfig(**small)).report
    assert report["interrupted"] and len(report["graphs"]) == 1
    assert judge(report).headline.startswith("This attack gave up on the molecule")


def test_ctrl_c_before_anything_leaves_nothing(small):
    def stop(now):
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_audit(MoleculesConfig(**small), on_progress=stop)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_the_attacker_is_told(small, monkeypatch):
    asked = {"no_chemistry": True, "candidates": 77, "seconds": 0.5, "noise": 0.1}
    calls = faked(monkeypatch, nothing)
    config = MoleculesConfig(**{**small, **asked, "controls": 1, "float16": True})
    report = run_audit(config).report
    assert report["defense"] == "Gaussian noise of share 0.1 and rounding to float16"
    assert "chemistry" not in report["knowledge"]
    assert len(calls) == 4
    for seen, domain, limits in calls:
        assert domain is ANY
        assert limits == LIMITS._replace(candidates=77, seconds=0.5)
        assert seen.known.granted() == ()
    # The same parameters, and for the control the gradient of others.
    (params, update), (same, other) = (calls[i][0].round(0) for i in (0, 3))
    jax.tree.map(np.testing.assert_array_equal, params, same)
    assert abs(jax.tree.leaves(update)[0] - jax.tree.leaves(other)[0]).max() > 0


def test_noise_is_a_share_of_each_leaf():
    update = {"a": np.full((200, 50), 2.0, np.float32), "b": np.ones(9, np.float32)}
    key = jax.random.key(0)
    plain = arrived(key, update, noise=0.0, float16=False)
    noisy = arrived(key, update, noise=0.1, float16=True)
    assert plain["a"] is update["a"]
    off = np.asarray(noisy["a"]) - 2.0
    assert off.std() == pytest.approx(0.2, rel=0.05) and abs(off.mean()) < 0.02
    assert (np.float16(noisy["a"]) == noisy["a"]).all()


def test_citations_are_generated_where_none_are_given(monkeypatch):
    config = CitationsConfig(num=3, width=8, controls=1)
    truth = source_of(config).graphs
    faked(monkeypatch, lambda i: recovered(Certificate.UNIQUE, [truth[0]]))
    result = run_audit(config)
    report = result.report
    assert report["case"] == "citations" and report["knowledge"][-1] == "vocabulary"
    assert "random numbers" in report["dataset"]["about"]
    assert [entry["exact"] for entry in report["graphs"]] == [True, False, False]
    # Both the wrong ones and the control's graph are called what they are.
    assert report["summary"]["wrong_unique"] == 2
    assert report["summary"]["controls_solved"] == 1
    assert all(entry["edge_share"] < 1 for entry in report["graphs"][1:])
    assert "citations" in report["command"]
    assert "called unique, but wrong" in render(result, judge(report))


def test_the_generated_network_is_like_a_sparse_real_one():
    network, again = generated_network(), generated_network()
    for mine, yours in zip(network, again, strict=True):
        np.testing.assert_array_equal(mine, yours)
    degrees = np.diff(network.neighbours_indptr)
    assert 1.5 < degrees.mean() < 2.5
    ends = np.repeat(np.arange(300), degrees)
    same = network.labels[ends] == network.labels[network.neighbours_indices]
    assert same.mean() > 0.75
    sizes = [size[1:] for size in SIZE_MIX]
    graphs = citation_samples(network, sizes=sizes).graphs
    for graph, (least, most) in zip(graphs, sizes, strict=True):
        assert least <= graph.num_nodes <= most


def test_how_many_molecules(small):
    every = source_of(MoleculesConfig())
    assert every.names == tuple(KNOWN_MOLECULES) and every.total == 38
    some = source_of(MoleculesConfig(num=4))
    assert len(some.graphs) == 4 and set(some.names) < set(every.names)
    assert isomorphic(some.graphs[0], every.graphs[every.names.index(some.names[0])])
    assert len(source_of(MoleculesConfig(**small | {"num": None})).graphs) == 6 < NUM
    with pytest.raises(InputError, match="num is 7; expected 1 to 6"):
        source_of(MoleculesConfig(**small | {"num": 7}))
    with pytest.raises(InputError, match="label column is 'z'"):
        source_of(MoleculesConfig(**small, label="z"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": "gta"}, "did you mean gat"),
        ({"num": 0}, "num is 0"),
        ({"num": 2.0}, "num is 2.0"),
        ({"seed": -1}, "seed is -1"),
        ({"depth": 0}, "depth is 0"),
        ({"width": True}, "width is True"),
        ({"width": 10**12}, "expected at most 1,000,000 units"),
        ({"controls": -1}, "controls is -1"),
        ({"candidates": 0}, "candidates is 0"),
        ({"noise": float("nan")}, "noise is nan"),
        ({"seconds": float("inf")}, "seconds is inf"),
        ({"model_options": {"width": 3}}, "option width is set in model_options"),
        ({"label": "y"}, "label is 'y'; expected None"),
    ],
)
def test_wrong_settings_are_refused_when_made(settings, says):
    with pytest.raises(InputError, match=says) as refused:
        MoleculesConfig(**settings)
    assert "\n" not in str(refused.value)


EVERY = {
    "num": 5,
    "seed": 4,
    "model": "gat",
    "depth": 3,
    "width": 16,
    "activation": "gelu",
    "noise": 0.01,
    "float16": True,
    "controls": 0,
    "candidates": 10,
    "seconds": 1.5,
    "model_options": {"readout": [8, 4]},
}


@pytest.mark.parametrize(
    "config",
    [
        MoleculesConfig(),
        CitationsConfig(),
        MoleculesConfig(
            data="a folder/with 'quotes'.csv", label="y", no_chemistry=True, **EVERY
        ),
        CitationsConfig(data="x.npz", **EVERY),
    ],
)
def test_the_command_in_the_report_repeats_the_audit(config, monkeypatch, tmp_path):
    caught = []

    def pretend(config, on_progress=None):
        caught.append(config)
        raise InputError("enough")

    monkeypatch.setattr("jaxinv.audits.graphs.run_audit", pretend)
    monkeypatch.setattr("jaxinv.cli.running.use_cache", lambda: None)
    program, *argv = shlex.split(config.command())
    assert program == "jaxinv"
    assert cli.main([*argv, "--out", str(tmp_path / "out")]) == 2
    assert caught == [config] and dataclasses.is_dataclass(config)
