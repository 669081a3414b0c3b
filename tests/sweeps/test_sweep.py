"""Sweeps from end to end, in this process."""

import dataclasses
import io

import jax
import numpy as np
import pytest
from PIL import Image
from sweeps.small_sweeps import CASE, SEARCH, small

from jaxinv.audits.images import run_audit
from jaxinv.errors import InputError
from jaxinv.reports.sweep import write_report
from jaxinv.sweeps import record, sweep
from jaxinv.sweeps.checkpoint import Checkpoints
from jaxinv.sweeps.kinds.images.job import BatchJob
from jaxinv.sweeps.plan import plan
from jaxinv.sweeps.store import Store

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return sweep(small(), tmp_path_factory.mktemp("whole"))


def test_every_job_has_its_rows(whole):
    rows = whole.rows().to_pylist()
    # Noise is nothing in the mean, so that who knows it is not run apart: one attacker.
    assert whole.finished and whole.jobs == 3 * 2 * 2 * 3
    assert sorted(row["job"] for row in rows) == list(range(whole.jobs))
    searched = [row for row in rows if row["attack"] == "inverting_gradients"]
    assert all(len(row["scores"]) == 3 for row in searched)
    assert all(row["score"] == min(row["scores"]) for row in searched)
    assert {row["iterations"] for row in searched} == {40}
    exact = [
        r for r in rows if r["attack"] == "linear_layer" and r["defense"] == "none"
    ]
    assert all(row["psnr"] > 60 and row["identified"] for row in exact)
    assert exact[0]["options"] == (
        '{"data": "digits", "num_examples": 3, "target": "mlp", "target.widths": [8]}'
    )


def test_a_row_is_what_an_audit_finds(whole):
    points = [p for p in small().points if p.config.attack == "inverting_gradients"]
    for point in (points[0], points[-1]):
        found = run_audit(point.config).report["examples"]
        rows = [
            row
            for row in whole.rows().to_pylist()
            if row["attack"] == point.config.attack
            and row["seed"] == point.config.seed
            and row["defense"] == point.defense
            and f'"attack.tv": {point.config.attack_options["tv"]},' in row["options"]
        ]
        assert len(rows) == len(found) == 3
        for row, example in zip(rows, found, strict=True):
            assert row["index"] == example["index"]
            assert row["psnr"] == pytest.approx(example["psnr"], abs=0.05)
            assert row["score"] == pytest.approx(example["score"], rel=0.02)


def test_in_float64_as_well_and_gone_on_with_to_the_same_bits(whole, tmp_path):
    attacks = ({**SEARCH, "restarts": 1, "precision": "float64"},)
    spec = small(attacks=attacks, defenses=("none",), seeds=(0,), checkpoint_s=0)
    wide = sweep(spec, tmp_path / "whole").rows()
    found = run_audit(spec.points[0].config).report["examples"]
    for row, example in zip(wide.to_pylist(), found, strict=True):
        assert row["score"] == pytest.approx(example["score"], rel=1e-9)
    narrow = {row["score"] for row in whole.rows().to_pylist()}
    assert not narrow & set(wide["score"].to_pylist())
    assert not sweep(spec, tmp_path / "cut", on_progress=stopping(9)).finished
    jax.clear_caches()
    assert sweep(spec, tmp_path / "cut").rows().equals(wide)


def test_a_client_that_sends_nothing_usable_is_a_row_and_no_end(
    whole, tmp_path, monkeypatch
):
    observation = BatchJob.observation

    def broken(job):
        if job.number in (3, 4, 5, 30):
            raise InputError("update is not finite")
        return observation(job)

    monkeypatch.setattr(BatchJob, "observation", broken)
    found = sweep(small(), tmp_path)
    rows = {row["job"]: row for row in found.rows().to_pylist()}
    assert found.finished and len(rows) == whole.jobs
    for row in whole.rows().to_pylist():
        mine = rows[row["job"]]
        if row["job"] in (3, 4, 5, 30):
            assert mine["status"] == "REFUSED" and mine["psnr"] is None
            assert mine["index"] == row["index"] and mine["seed"] == row["seed"]
        else:
            assert mine == row
    swept = record(found, small(), "s.toml")
    lines = swept.report["lines"]
    assert sum(line["statuses"].get("REFUSED", 0) for line in lines) == 4
    assert "REFUSED" in write_report(swept, tmp_path / "page").read_text("utf-8")


def test_pictures_are_those_of_the_data(whole):
    row = whole.rows(["job", "index", "true", "recovered"]).to_pylist()[0]
    job = plan(small()).groups[0].jobs[0]
    truth = np.asarray(Image.open(io.BytesIO(row["true"])))
    np.testing.assert_array_equal(truth, job.scene.data.x[row["index"], ..., 0])
    assert Image.open(io.BytesIO(row["recovered"])).size == (8, 8)


def test_numbers_of_a_grid_share_a_program_and_words_do_not():
    attacks = (
        {
            **SEARCH,
            "set": {"attack.tv": [0.1, 0.2], "attack.schedule": ["step", "cosine"]},
        },
    )
    groups = plan(small(attacks=attacks)).groups
    # Blind to the defence as well: two schedules, two programs.
    assert [group.open for group in groups] == [("tv",), ("tv",)]
    assert [len(group.jobs) for group in groups] == [2 * 2 * 2 * 3] * 2


def test_what_decides_the_shape_of_an_attack_is_not_left_open():
    # The optimiser's memory is a number, and the size of a state.
    attacks = ({"name": "dlg", "set": {"attack.memory_size": [3, 5]}},)
    groups = plan(small(attacks=attacks, defenses=("none",), seeds=(0,))).groups
    assert [group.open for group in groups] == [(), ()]


# A checkpoint wherever one can be; how often changes no row.
OFTEN = small(checkpoint_s=0)


def stopping(after):
    """Asks to stop at the so-manieth word of progress."""
    told = []

    def show(now):
        told.append(now)
        if len(told) == after:
            raise KeyboardInterrupt

    return show


@pytest.mark.parametrize("after", [3, 30])
def test_stopped_and_gone_on_with_it_comes_to_the_same_bits(whole, tmp_path, after):
    first = sweep(OFTEN, tmp_path, on_progress=stopping(after))
    assert not first.finished
    assert first.rows(["job"]).num_rows < whole.jobs
    jax.clear_caches()
    again = sweep(small(), tmp_path)
    assert again.finished and again.rows().equals(whole.rows())
    # Nothing is left to do, and nothing is done.
    told = []
    assert sweep(small(), tmp_path, on_progress=told.append).finished
    assert not told


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_last_checkpoint_costs_one_interval(whole, tmp_path):
    sweep(OFTEN, tmp_path, on_progress=stopping(30))
    last = max((p for p in (tmp_path / "checkpoints").iterdir()), key=lambda p: p.name)
    for path in last.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    assert sweep(small(), tmp_path).rows().equals(whole.rows())


def test_nothing_is_removed_where_no_checkpoint_can_be_read(tmp_path, monkeypatch):
    rows = sweep(OFTEN, tmp_path, on_progress=stopping(30)).rows(["job"]).num_rows
    assert rows
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())

    def broken(self, sequence, wanted):
        raise ValueError("no such topology")

    monkeypatch.setattr(Checkpoints, "_read", broken)
    with pytest.raises(InputError, match="no such topology"):
        sweep(OFTEN, tmp_path)
    monkeypatch.undo()
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == names
    assert Store(tmp_path / "rows", small().kind.columns).read(["job"]).num_rows == rows


def test_another_device_s_states_are_read_here(whole, tmp_path):
    sweep(OFTEN, tmp_path, on_progress=stopping(9))
    written = [*tmp_path.rglob("_sharding")]
    assert written
    for path in written:
        path.write_text(path.read_text().replace("cpu", "cuda").replace("CPU", "CUDA"))
    assert sweep(small(), tmp_path).rows().equals(whole.rows())


def test_another_order_of_jobs_is_refused(tmp_path, monkeypatch):
    # As a version might, in which an option decides what an attack computes.
    sweep(OFTEN, tmp_path, on_progress=stopping(30))
    monkeypatch.setattr("jaxinv.sweeps.plan._can_stay_open", lambda job, name: False)
    with pytest.raises(InputError, match="plan was"):
        sweep(OFTEN, tmp_path)


def test_grids_of_every_field_are_lines_of_their_own(tmp_path):
    case = {**CASE, "batch_size": [1, 3], "normalise": [False, True]}
    spec = small(
        cases=(case,),
        attacks=({"name": "linear_layer"},),
        defenses=("none",),
        seeds=(0,),
    )
    lines = record(sweep(spec, tmp_path), spec, "s.toml").report["lines"]
    assert [line["examples"] for line in lines] == [3] * 4
    assert {tuple(line["varied"]) for line in lines} == {
        (f"batch_size={size}", f"normalise={flag}")
        for size in (1, 3)
        for flag in (False, True)
    }


def test_targets_of_a_grid_are_told_apart(tmp_path):
    case = {"name": "d", "data": "digits", "target": ["mlp", "lenet"]}
    search = {**SEARCH, "restarts": 1, "iterations": 1}
    spec = small(
        cases=({**case, "num_examples": 1},),
        attacks=(search,),
        defenses=("none",),
        seeds=(0,),
    )
    lines = record(sweep(spec, tmp_path), spec, "s.toml").report["lines"]
    assert [line["varied"] for line in lines] == [["target=mlp"], ["target=lenet"]]
    assert len({line["name"] for line in lines}) == 2


def test_files_of_one_name_have_fingerprints_of_their_own(tmp_path):
    paths = [tmp_path / folder / "x.npz" for folder in "ab"]
    for seed, path in enumerate(paths):
        path.parent.mkdir()
        x = np.random.default_rng(seed).integers(0, 256, (2, 8, 8, 1), np.uint8)
        np.savez(path, x=x, y=np.arange(2))
    case = {**CASE, "num_examples": 1, "data": [str(path) for path in paths]}
    planned = plan(small(cases=(case,), attacks=({"name": "linear_layer"},)))
    assert len(set(planned.data.values())) == 2


def test_progress_grows_to_the_end(tmp_path):
    told = []
    sweep(small(seeds=(0,)), tmp_path, on_progress=told.append)
    done = [now.steps()[0] for now in told]
    assert done == sorted(done) and told[-1].steps() == (done[-1], told[0].total)
    assert told[-1].part == told[-1].num_parts


def test_another_spec_is_refused_with_the_difference(whole):
    with pytest.raises(InputError, match=r"seeds was \[0, 1\] and is \[0\]"):
        sweep(small(seeds=(0,)), whole.folder)
    assert sweep(dataclasses.replace(small(), checkpoint_s=9), whole.folder).finished


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"cases": ({**CASE, "num_examples": 10_000},)}, "the data holds 1797"),
        ({"cases": ({**CASE, "target": "resnet18"},)}, "digits, inverting_gradients"),
        ({"attacks": ({**SEARCH, "set": {"attack.tb": 1}},)}, "option 'tb' is unknown"),
        ({"attacks": ({"name": "idlg", "withhold": ["labels"]},)}, "num_examples is 3"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_runs(tmp_path, changes, message):
    changes = {"cases": ({**CASE, "batch_size": 3},), **changes}
    with pytest.raises(InputError, match=message):
        sweep(small(**changes), tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_the_wrong_update_recovers_nothing(tmp_path):
    # Noise far above the gradient: what is recovered is not the data.
    spec = small(
        attacks=({"name": "linear_layer"},),
        defenses=("none", "gaussian_noise:std=100"),
    )
    lines = record(sweep(spec, tmp_path), spec, "s.toml").report["lines"]
    plain, noisy = (next(x for x in lines if x["defense"] == d) for d in spec.defenses)
    assert plain["psnr"] == 50 and noisy["psnr"] < 15


def test_the_record_holds_what_was_found(whole):
    found = record(whole, small(), "s.toml")
    report = found.report
    assert report["jobs_done"] == report["jobs"] == 36 and len(found.rows) == 36
    assert [line["examples"] for line in report["lines"]] == [6] * 6
    assert {tuple(line["varied"]) for line in report["lines"]} == {
        ("attack.tv=0.01",),
        ("attack.tv=0.1",),
        (),
    }
    assert found.pictures and all(row["recovered"] for row in found.pictures)
    assert "true" not in found.rows[0]
