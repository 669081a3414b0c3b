"""`python -m bench grain`: a row for each graph, GRAIN beside the baselines."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench import grain
from bench.grain_row import _labels_right, compiling
from bench.grain_table import by_setting, digest_of_rows, wrong_unique
from jaxinv.graph import Graph

pytest.importorskip("rdkit", reason="rdkit is not installed")

KEYS = set(
    "id num_nodes status isomorphic in_class gsm0 gsm1 gsm2 full node_share edge_share "
    "labels seconds compile_seconds stage reason distance class_size complete "
    "seconds_by_stage counts digest attack model task activation concat depth width "
    "noise float16 local_lr local_steps chemistry command machine data".split()
)


def rows_of(path, *argv):
    assert grain.main([*argv, "--data", "known", "--json", str(path)]) == 0
    rows = json.loads(path.read_text("utf-8"))
    assert all(row.keys() == KEYS for row in rows)
    assert all("--json" not in row["command"] for row in rows)
    return rows


# No time limit, so that a slow machine finds the same.
NODES = "--task node --activation gelu --width 64 --seconds 1000".split()


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Node classification with noise and without, and its file."""
    path = tmp_path_factory.mktemp("grain") / "noisy.json"
    return rows_of(path, *NODES, "--num", "2", "--noise", "0", "0.1"), path


def test_settings_are_run_one_after_the_other(noisy):
    rows, _ = noisy
    clean = "task=node activation=gelu width=64"
    groups = by_setting(rows)
    assert list(groups) == [clean, f"{clean} noise=0.1"]
    assert [row["noise"] for row in rows] == [0, 0, 0.1, 0.1]
    for row in groups[clean]:
        assert row["isomorphic"] and row["labels"] and row["distance"] < 1e-5
    for row in rows:
        assert (row["status"] == "gave up") == (row["noise"] > 0)
        assert row["seconds"] >= 0 and not wrong_unique(row)
        assert row["task"] == "node" and row["attack"] == "grain"


def test_two_runs_find_the_same_graphs(noisy, tmp_path, capsys):
    rows, path = noisy
    again = rows_of(tmp_path / "again.json", *NODES, "--num", "2")
    assert [row["digest"] for row in again] == [row["digest"] for row in rows[:2]]
    assert again[0]["digest"] != again[1]["digest"]
    capsys.readouterr()
    assert grain.main(["--show", str(path), str(tmp_path / "again.json")]) == 0
    shown = capsys.readouterr().out
    digest = digest_of_rows(again)
    assert shown.count(f"| {digest} |") == 2 and shown.count("| noisy: ") == 4
    changed = [again[0] | {"digest": "other"}, again[1]]
    assert digest_of_rows(changed) != digest
    # As files had them before there were digests.
    old = [{k: v for k, v in again[0].items() if k != "digest"}]
    assert digest_of_rows(old) == ""


def test_baselines_are_told_no_more_than_their_names_say(tmp_path, capsys):
    # DLG's L-BFGS takes long to compile; its own tests run it.
    attacks = "graph_tableak_edges graph_tableak"
    options = "--num 1 --depth 1 --width 16 --restarts 2 --steps 3 --attack"
    path = tmp_path / "a.json"
    edges, tableak = rows_of(path, *options.split(), *attacks.split())
    assert attacks.split() == [edges["attack"], tableak["attack"]]
    assert edges["id"] == tableak["id"]
    for row in (edges, tableak):
        assert row["status"] == "OK" and not row["isomorphic"]
        assert row["gsm0"] > 0 and row["distance"] > 1e-3 and not row["complete"]
        assert row["counts"] == {"restarts": 2, "steps": 3}
    assert "attack=graph_tableak_edges" in capsys.readouterr().out


def test_wrong_arguments_are_refused(capsys):
    with pytest.raises(SystemExit):
        grain.main("--data ego --sizes 3 4 --task node".split())
    assert "--sizes expects --task graph" in capsys.readouterr().err


def test_labels_are_right_up_to_nodes_that_look_alike():
    ends = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32)
    features = np.eye(2, dtype=np.float32)[[0, 1, 0]]

    def path(*labels):
        return Graph(features, ends, np.ones(3), np.array(labels))

    assert _labels_right(path(0, 0, 1), path(1, 0, 0), 2)
    assert not _labels_right(path(0, 0, 1), path(0, 1, 0), 2)
    assert not _labels_right(path(0, 0, 1), None, 2)


def test_seconds_of_compiling_are_counted_once():
    inner = jax.jit(lambda x: jnp.sin(x) + 3)
    with compiling() as spent:
        jax.block_until_ready(jax.jit(lambda x: inner(x) * inner(2 * x))(jnp.ones(7)))
    assert spent
    for (_, end), (start, _) in itertools.pairwise(spent):
        assert end <= start
