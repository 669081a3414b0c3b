"""GRAIN: whole numbers that solve a linear system, against all of them in a box."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinv.attacks.grain import lattice
from jaxinv.attacks.grain.lattice import Lattice, solutions
from jaxinv.attacks.grain.outcome import GaveUp


@st.composite
def systems(draw):
    """Equations that hold for some counts, which add up to `num`."""
    size = draw(st.integers(1, 5))
    counts = draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    counts[draw(st.integers(0, size - 1))] += 1
    row = st.lists(st.integers(-2, 2), min_size=size, max_size=size)
    rows = np.array([*draw(st.lists(row, max_size=2)), [1] * size], float)
    return rows, np.array(counts)


def lattice_of(rows, counts):
    return Lattice(*solutions(rows, rows @ counts / counts.sum(), 1e-9))


def every(rows, counts):
    """All non-negative whole numbers with the same sums."""
    box = np.indices((counts.sum() + 1,) * len(counts)).reshape(len(counts), -1).T
    fits = (np.abs(box @ rows.T - rows @ counts) < 1e-6).all(1)
    return set(map(tuple, box[fits].tolist()))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(systems())
def test_solutions_are_one_and_what_may_be_added(system):
    rows, counts = system
    right = rows @ counts
    base, free = solutions(rows, right, 1e-9)
    np.testing.assert_allclose(rows @ base, right, atol=1e-9)
    np.testing.assert_allclose(rows @ free, 0, atol=1e-9)
    np.testing.assert_allclose(free.T @ free, np.eye(free.shape[1]), atol=1e-9)
    assert free.shape[1] == len(counts) - np.linalg.matrix_rank(rows)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(systems())
def test_every_point_is_listed_once(system):
    rows, counts = system
    num = counts.sum()
    # What is only near is for whoever asks to tell from what is exact.
    listed = lattice_of(rows, counts).points(num)
    exact = listed[np.abs(rows @ listed.T - (rows @ counts)[:, None]).max(0) < 1e-6]
    found = [tuple(point) for point in exact.astype(int).tolist()]
    assert len(found) == len(set(found))
    assert set(found) == every(rows, counts)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(systems(), st.integers(1, 2))
def test_columns_of_any_point_are_supported(system, times):
    rows, counts = system
    kept = set(lattice_of(rows, counts).supported().tolist())
    for point in every(rows, (times if len(counts) < 5 else 1) * counts):
        assert set(np.flatnonzero(point).tolist()) <= kept


def test_columns_that_are_zero_in_every_solution_are_not_supported():
    # a + b = 0 of what is not negative, and c takes it all.
    rows = np.array([[1.0, 1, 0], [1, 1, 1]])
    np.testing.assert_array_equal(lattice_of(rows, np.array([0, 0, 2])).supported(), 2)
    # Of 1,000 nodes one is a share of 0.001, which is called rounding.
    rows = np.eye(2)
    np.testing.assert_array_equal(lattice_of(rows, np.array([999, 1])).supported(), 0)
    assert len(lattice_of(rows, np.array([99, 1])).supported()) == 2


def test_more_points_than_are_enumerated_give_up(monkeypatch):
    found = lattice_of(np.ones((1, 4)), np.array([1, 1, 1, 1]))
    assert len(found.points(4)) == math.comb(7, 3)
    monkeypatch.setattr(lattice, "MOST_POINTS", 4**3)
    with pytest.raises(GaveUp, match="3 numbers are free"):
        found.points(4)


def test_no_time_gives_up():
    base, free = solutions(np.ones((1, 3)), np.ones(1), 1e-9)
    with pytest.raises(GaveUp, match="time has run out"):
        Lattice(base, free, until=-1.0).points(3)
    # Where nothing is free there is nothing to wait for.
    (point,) = Lattice(np.array([0.25, 0.75]), np.zeros((2, 0)), until=math.inf).points(
        4
    )
    np.testing.assert_array_equal(point, [1, 3])
