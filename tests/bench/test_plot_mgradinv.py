"""`python -m bench plot_mgradinv`: means, intervals, and a picture of them."""

import json

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from bench import plot_mgradinv
from bench.mgradinv_table import mean_and_half_width


def row(rounds, exact, mae, **more):
    return {
        "rounds": rounds,
        "interval": 10,
        "start": 0,
        "exact": exact,
        "mae": mae,
    } | {
        "model": "mf",
        "noise": 0.0,
        **more,
    }


ROWS = [
    *(row(1, 0.1, 1.0 + i) for i in range(3)),
    *(row(2, exact, 0.5) for exact in (1, 1, 0.9)),
]


def written(path, rows):
    path.write_text(json.dumps(rows), "utf-8")
    return str(path)


def test_lines_are_told_apart_by_what_differs():
    rows = [{"file": "a", **one} for one in ROWS]
    rows += [{"file": "b", **one, "noise": 0.1, "together": True} for one in ROWS]
    lines = plot_mgradinv._lines(rows, "rounds")
    assert list(lines) == ["noise 0", "noise 0.1, together"]
    assert {x: len(part) for x, part in lines["noise 0"].items()} == {1: 3, 2: 3}
    # The noise is an axis too, and then no name.
    assert list(plot_mgradinv._lines(rows, "noise")) == [
        "rounds 1",
        "rounds 1, together",
        "rounds 2",
        "rounds 2, together",
    ]
    # Two files that say the same keep lines of their own.
    same = [{"file": name, **one} for name in "ab" for one in ROWS]
    assert list(plot_mgradinv._lines(same, "rounds")) == ["a", "b"]


def test_intervals():
    mean, half = mean_and_half_width(np.array([1.0, 2.0, 3.0, np.nan]))
    assert (mean, half) == pytest.approx((2, 1.96 / 3**0.5))
    share, below, above = plot_mgradinv._exact_share(ROWS[3:])
    # By hand: Wilson's interval for 2 of 3.
    assert (share, share - below, share + above) == pytest.approx(
        (2 / 3, 0.20765, 0.93851), abs=1e-4
    )
    assert plot_mgradinv._exact_share(ROWS[:3])[:2] == (0, 0)


def test_the_picture(tmp_path):
    files = [written(tmp_path / "a.json", ROWS)]
    noisy = [{**one, "noise": 0.1, "interval": 20} for one in ROWS]
    files.append(written(tmp_path / "b.json", [*ROWS, *noisy]))
    picture = tmp_path / "p.png"
    assert plot_mgradinv.main([*files, "--png", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_no_rows_are_refused(tmp_path, capsys):
    empty = written(tmp_path / "empty.json", [])
    with pytest.raises(SystemExit):
        plot_mgradinv.main([empty, "--png", str(tmp_path / "p.png")])
    assert "empty.json: no rows" in capsys.readouterr().err
