"""GRAIN: candidates for the types of nodes, and which can stand in a graph."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_graphs import table

from jaxinv.attacks.grain.proposals import (
    multisets,
    neighbourhoods,
    num_multisets,
    num_neighbourhoods,
    refinements,
)
from jaxinv.attacks.grain.types import closed


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 6), st.integers(0, 4))
def test_multisets_are_those_of_itertools(pool, size):
    values = 3 + 2 * np.arange(pool)
    expected = list(itertools.combinations_with_replacement(values.tolist(), size))
    found = multisets(values, size)
    assert found.shape == (len(expected), size)
    assert sorted(map(tuple, found.tolist())) == expected
    assert num_multisets(pool, size) == len(expected)


def gathered(chunks, batch):
    own, others = [], []
    for a, b in chunks:
        assert 0 < len(a) <= batch and len(a) == len(b)
        own += a.tolist()
        others += b.tolist()
    return Counter(zip(own, map(tuple, others), strict=True))


@pytest.mark.parametrize("degree", range(5))
def test_neighbourhoods_are_all_those_allowed(degree):
    rng = np.random.default_rng(degree)
    allowed = rng.random((7, 7)) < 0.6
    allowed[2] = False  # nothing can stand beside it
    centres = np.array([0, 2, 5])
    found = gathered(neighbourhoods(centres, degree, allowed, 9), 9)
    expected = Counter(
        (int(centre), others)
        for centre in centres
        for others in itertools.combinations_with_replacement(
            np.flatnonzero(allowed[centre]).tolist(), degree
        )
    )
    assert found == expected
    assert num_neighbourhoods(centres, degree, allowed) == len(expected)


def test_refinements_are_all_that_agree():
    below = table(
        [
            (0, [1]),
            (0, [2]),
            (1, [0, 0]),
            (1, [0, 2]),
            (2, [0, 1, 1]),
            (2, []),
            (3, [0]),
        ]
    )
    near = [set(row[row >= 0].tolist()) for row in below.others]
    expected = Counter()
    for i, row in enumerate(below.others):
        wanted = sorted(row[row >= 0].tolist())
        for others in itertools.combinations_with_replacement(
            range(below.num), len(wanted)
        ):
            fits = all(below.own[i] in near[other] for other in others)
            if fits and sorted(below.own[list(others)].tolist()) == wanted:
                expected[i, others] += 1
    parts = refinements(below, 4)
    found = {degree: gathered(chunks, 4) for degree, (_, chunks) in parts.items()}
    assert sum(found.values(), Counter()) == expected
    for degree, (count, _) in parts.items():
        assert count == sum(found[degree].values())
        assert all(len(others) == degree for _, others in found[degree])


def test_closed_keeps_what_can_stand_in_a_graph():
    alive = [(0, [1]), (1, [0, 0]), (2, [2]), (3, [])]
    # 4 wants 5, whose only type wants 6, which has none; 0 wants 4 in vain.
    dead = [(4, [5]), (5, [4, 6]), (0, [4]), (1, [0, 3])]
    types = table(alive + dead)
    np.testing.assert_array_equal(closed(types), [True] * 4 + [False] * 4)
    assert closed(table(alive)).all()
    assert closed(table([(0, [])])).all()
