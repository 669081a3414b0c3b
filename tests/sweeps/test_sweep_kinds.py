"""Sweeps of recommenders and graphs: rows as their audits find them, and resumed."""

import json
from datetime import date

import jax
import numpy as np
import pytest

from jaxinv.audits import graphs, recommender
from jaxinv.errors import InputError
from jaxinv.sweeps import Sweep, record, running, sweep
from jaxinv.sweeps.kinds.graphs import GraphJob
from jaxinv.sweeps.plan import plan

pytestmark = pytest.mark.usefixtures("compiled_quickly")

USERS = {"name": "readers", "users": 3, "dim": 4, "rounds": 2}


def ratings(**changes):
    fields = {
        "audit": "recommender",
        "cases": ({**USERS, "noise": [0.0, 0.3]},),
        "attacks": (
            {"name": "factorization"},
            {"name": "mgradinv", "restarts": 2, "iterations": 6},
        ),
        "checkpoint_s": 0,
    }
    return Sweep(**{**fields, **changes})


def molecules(**changes):
    fields = {
        "audit": "molecules",
        "cases": ({"name": "known", "num": 3, "width": 40, "noise": [0.0, 0.5]},),
        "attacks": ({"name": "grain"},),
        "checkpoint_s": 0,
    }
    return Sweep(**{**fields, **changes})


def stopping(after):
    told = []

    def show(now):
        told.append(now)
        if len(told) == after:
            raise KeyboardInterrupt

    return show


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    return sweep(ratings(), tmp_path_factory.mktemp("users"))


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    return sweep(molecules(), tmp_path_factory.mktemp("solved"))


def test_a_row_is_what_the_recommender_s_audit_finds(users):
    rows = users.rows().to_pylist()
    assert users.finished and users.jobs == len(rows) == 2 * 2 * 3
    for point in ratings().points:
        entries = recommender.run_audit(point.config).report["users"]
        mine = [
            row
            for row in rows
            if row["attack"] == point.attack
            and json.loads(row["options"]) == point.options()
        ]
        assert [row["index"] for row in mine] == [e["user"] for e in entries]
        for row, entry in zip(mine, entries, strict=True):
            assert row["status"] == entry["status"]
            assert row["num_ratings"] == entry["num_ratings"] == len(row["true"])
            for name in ("exact", "mae", "guess_mae"):
                assert row[name] == pytest.approx(entry[name], abs=0.02)


def test_users_of_one_shape_share_a_program():
    groups = plan(ratings()).groups
    # Closed form and search; noise is the update's, and no program's.
    shapes = {
        job.scene.clients.profiles.ratings.shape for g in groups for job in g.jobs
    }
    assert len(groups) == 2 * len(shapes)


def test_without_noise_ratings_are_exact_and_under_noise_not(users):
    lines = record(users, ratings(), "s.toml").report["lines"]
    exact = {
        (line["attack"], line["options"]["noise"]): line["exact"] for line in lines
    }
    assert exact["factorization", 0.0] == 1.0
    assert exact["factorization", 0.3] < 1.0
    assert all(line["guess_exact"] < 1 for line in lines)
    assert {line["defense"] for line in lines} == {"none", "noise 0.3"}


def test_the_record_names_the_noise_as_the_defence(users):
    report = record(users, ratings(), "s.toml").report
    assert report["defense"] == "none, noise 0.3"


def test_a_stopped_sweep_of_users_goes_on_to_the_same_bits(users, tmp_path):
    assert not sweep(ratings(), tmp_path, on_progress=stopping(7)).finished
    jax.clear_caches()
    assert sweep(ratings(), tmp_path).rows().equals(users.rows())


def test_float64_and_granted_embeddings_are_swept(tmp_path):
    attacks = ({"name": "mgradinv", "embedding": ["joint", "known"], "iterations": 6},)
    spec = ratings(cases=({**USERS, "float64": True},), attacks=attacks)
    rows = sweep(spec, tmp_path).rows().to_pylist()
    known = [row for row in rows if '"known"' in row["options"]]
    assert len(rows) == 6 and all(row["exact"] == 1 for row in known)
    assert all(row["score"] < 1e-20 for row in known)


def test_a_row_is_what_the_audit_of_molecules_finds(solved):
    rows = solved.rows().to_pylist()
    assert solved.finished and solved.jobs == len(rows) == 2 * 3
    for point in molecules().points:
        found = graphs.run_audit(point.config).report["graphs"]
        mine = [r for r in rows if json.loads(r["options"]) == point.options()]
        for row, entry in zip(mine, found, strict=True):
            assert row["status"] == entry["certificate"]
            assert row["smiles"] == entry["smiles"]
            for name in ("index", "exact", "in_class", "num_nodes", "gsm1"):
                assert row[name] == entry[name]
            assert json.loads(row["true"]) == entry["truth"]


def test_noise_hides_molecules(solved):
    lines = record(solved, molecules(), "s.toml").report["lines"]
    found = {line["options"]["noise"]: line for line in lines}
    assert found[0.0]["exact"] == 1 and found[0.5]["exact"] == 0
    assert found[0.5]["wrong_unique"] == 0


def test_a_stopped_sweep_of_molecules_goes_on_to_the_same_rows(solved, tmp_path):
    assert not sweep(molecules(), tmp_path, on_progress=stopping(6)).finished
    assert sweep(molecules(), tmp_path).rows().equals(solved.rows())


def test_programs_of_earlier_points_are_let_go(tmp_path, monkeypatch):
    cleared = []
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(True))
    monkeypatch.setattr(running, "_POINTS_BETWEEN", 2)
    monkeypatch.setattr(GraphJob, "solve", lambda self, pictures: [])
    case = {"name": "known", "num": 2, "width": 4}
    spec = molecules(cases=(case,), seeds=tuple(range(5)), checkpoint_s=1000)
    assert sweep(spec, tmp_path).finished
    assert len(cleared) == 2


def test_citations_are_swept(tmp_path):
    case = {"name": "papers", "num": 2, "width": 40}
    spec = molecules(audit="citations", cases=(case,))
    rows = sweep(spec, tmp_path).rows().to_pylist()
    assert len(rows) == 2 and {row["data"] for row in rows} == {
        "generated network of 300 papers"
    }
    assert np.isfinite([row["gsm1"] for row in rows]).all()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"audit": "recomender"}, "audit is 'recomender'"),
        ({"defenses": ("sign",)}, "whose cases have noise and float16"),
        ({"cases": ({**USERS, "size": 3},)}, "'size' is unknown"),
        ({"cases": ({**USERS, "set": {"target.x": 1}},)}, "model.NAME"),
        ({"attacks": ({"name": "dlg"},)}, "attacks[0].name is 'dlg'"),
        ({"attacks": ({"name": "mgradinv", "grant": ["x"]},)}, "'grant' is unknown"),
        ({"attacks": ({"name": "mgradinv", "restarts": 10**10},)}, "1,000,000 at most"),
        ({"cases": ({**USERS, "name": "a\x1bb"},)}, "expected a line of text"),
        ({"cases": ({**USERS, "noise": "0.1"},)}, "noise is '0.1'; expected a number"),
        ({"cases": ({**USERS, "learning_rate": True},)}, "expected a number"),
        ({"cases": ({**USERS, "most_ratings": [30, "x"]},)}, "expected an integer"),
        ({"cases": ({**USERS, "float16": "no"},)}, "float16 is 'no'; expected true or"),
        ({"cases": ({**USERS, "model": [["mf"]]},)}, "expected a text"),
        ({"cases": ({**USERS, "data": date(2026, 1, 1)},)}, "data has datetime.date("),
        ({"attacks": ({"name": "mgradinv", "iterations": "x"},)}, "iterations is 'x'"),
        (
            {"attacks": ({"name": "mgradinv", "set": {"attack.pull": {"a": 1}}},)},
            "attack.pull has {'a': 1}; expected text",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes, message):
    with pytest.raises(InputError, match=r"^[^\n]*$") as raised:
        ratings(**changes)
    assert message in str(raised.value)


def test_a_file_without_a_name_is_refused_as_in_the_audit():
    with pytest.raises(InputError, match=r"expected a \.csv or \.npz"):
        plan(ratings(cases=({**USERS, "data": ""},)))


def test_what_does_not_fit_is_told_before_anything_runs(tmp_path):
    spec = ratings(cases=({**USERS, "least_ratings": 10**6},))
    with pytest.raises(InputError, match="readers, factorization"):
        sweep(spec, tmp_path / "s")
    assert not (tmp_path / "s").exists()
