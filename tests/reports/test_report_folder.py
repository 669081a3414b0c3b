"""The folder of a report: refused before the work, never left half written."""

import numpy as np
import pytest
from fakes import example, fake_result

from jaxinv.errors import InputError
from jaxinv.reports.folder import check_folder, jsonable
from jaxinv.reports.images import write_report


def test_failed_write_keeps_the_old_report(tmp_path, monkeypatch):
    write_report(fake_result(), tmp_path)
    before = (tmp_path / "report.json").read_bytes()

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_report(fake_result([example(0)]), tmp_path)
    assert (tmp_path / "report.json").read_bytes() == before
    assert not list(tmp_path.rglob("*.new"))


def test_jsonable_of_arrays():
    assert jsonable({"a": np.float32("nan"), 1: (np.int64(2), np.array([1.5]))}) == {
        "a": None,
        "1": [2, [1.5]],
    }


def test_check_folder_leaves_no_trace(tmp_path):
    out = tmp_path / "deep" / "er"
    assert check_folder(out) == out
    assert not list(tmp_path.iterdir())
    write_report(fake_result(), out)
    before = sorted(out.rglob("*"))
    check_folder(out)
    assert sorted(out.rglob("*")) == before


def test_check_folder_refuses(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "report.html").mkdir(parents=True)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "pictures").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for bad in ("file", "file/below", "taken", "odd", "dangling", "a\0b"):
        with pytest.raises(InputError, match=r"out is .*expected a folder"):
            check_folder(f"{tmp_path}/{bad}")
    with pytest.raises(InputError, match="out is ''"):
        check_folder("")


def test_folder_without_permission(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    try:
        (closed / "probe").touch()
    except PermissionError:
        pass
    else:
        pytest.skip("this user may write everywhere")
    with pytest.raises(InputError, match="Permission denied"):
        check_folder(closed / "out")
