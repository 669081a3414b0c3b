"""Rows and checkpoints on disk: whole, or not there."""

import gc

import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.errors import InputError
from jaxinv.sweeps.checkpoint import Checkpoints
from jaxinv.sweeps.folder import claim, locked
from jaxinv.sweeps.kinds import KINDS
from jaxinv.sweeps.store import Store

COLUMNS = KINDS["images"].columns


def row(job):
    return dict.fromkeys(COLUMNS) | {"job": job, "scores": [1.0], "true": b"png"}


def test_rows_come_back_and_uncounted_ones_go(tmp_path):
    store = Store(tmp_path / "rows", COLUMNS)
    store.keep(0)
    for sequence in (1, 2, 3):
        store.write(sequence, [row(sequence)])
    store.write(4, [])
    (tmp_path / "rows" / ".part-00000009.parquet").write_bytes(b"half")
    store.keep(2)
    assert store.read(["job"])["job"].to_pylist() == [1, 2]
    assert sorted(p.name for p in (tmp_path / "rows").iterdir()) == [
        "part-00000001.parquet",
        "part-00000002.parquet",
    ]
    assert store.read(["true"], jobs=[2]).to_pylist() == [{"true": b"png"}]


def test_no_rows_are_a_table_too(tmp_path):
    assert Store(tmp_path / "rows", COLUMNS).read(["job", "psnr"]).num_rows == 0


def saved(tmp_path, count):
    checkpoints = Checkpoints(tmp_path / "c")
    for sequence in range(1, count + 1):
        arrays = [jnp.arange(4.0) + sequence, np.arange(3)]
        checkpoints.save(sequence, {"at": sequence}, {"states": arrays, "none": []})
    return checkpoints


def test_the_last_checkpoint_comes_back(tmp_path):
    checkpoints = saved(tmp_path, 3)
    sequence, position, items = checkpoints.last(lambda at: {"states": None})
    assert (sequence, position) == (3, {"at": 3})
    np.testing.assert_array_equal(items["states"][0], np.arange(4.0) + 3)
    np.testing.assert_array_equal(items["states"][1], np.arange(3))
    assert len([p for p in (tmp_path / "c").iterdir() if p.name.isdigit()]) == 2
    assert checkpoints.last(lambda at: {})[2] == {}
    checkpoints.close()


# What orbax leaves behind where it gives up on a file.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", ["cut", "other", "gone"])
def test_a_damaged_last_one_falls_back(tmp_path, damage):
    saved(tmp_path, 3).close()
    files = [p for p in (tmp_path / "c" / "3").rglob("*") if p.is_file()]
    for path in files:
        if damage == "gone" and path.parent.name == "meta":
            path.unlink()
        elif damage == "cut" and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        elif damage == "other" and path.parent.name == "d":
            path.write_bytes(bytes(b ^ 0xFF for b in path.read_bytes()))
    checkpoints = Checkpoints(tmp_path / "c")
    sequence, position, items = checkpoints.last(lambda at: {"states": None})
    assert (sequence, position) == (2, {"at": 2})
    np.testing.assert_array_equal(items["states"][0], np.arange(4.0) + 2)
    gc.collect()
    # The damaged one is out of the way of those to come.
    checkpoints.save(3, {"at": 3}, {})
    assert checkpoints.last(lambda at: {})[:2] == (3, {"at": 3})
    checkpoints.close()


def test_no_checkpoint_is_none(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    assert checkpoints.last(lambda at: {}) is None
    checkpoints.close()


def test_one_process_at_a_time(tmp_path):
    with locked(tmp_path / "s"):
        other = locked(tmp_path / "s")
        with pytest.raises(InputError, match="another sweep is running"), other:
            pass
    with locked(tmp_path / "s"):
        pass


def test_a_folder_is_for_one_spec(tmp_path):
    assert claim(tmp_path, {"seeds": [0]}, "cpu") == []
    assert claim(tmp_path, {"seeds": [0]}, "cpu") == []
    assert claim(tmp_path, {"seeds": [0]}, "H200") == ["device was 'cpu' and is 'H200'"]
    with pytest.raises(InputError, match=r"seeds was \[0\] and is \[0, 1\]"):
        claim(tmp_path, {"seeds": [0, 1]}, "cpu")
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(InputError, match="not what a sweep writes"):
        claim(tmp_path, {"seeds": [0]}, "cpu")


def test_rows_of_nobody_are_not_written_over(tmp_path):
    (tmp_path / "rows").mkdir()
    with pytest.raises(InputError, match=r"holds 'rows' and no sweep\.json"):
        claim(tmp_path, {}, "cpu")
