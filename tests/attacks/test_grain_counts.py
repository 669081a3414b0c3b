"""GRAIN: from shares of types to numbers of nodes."""

import itertools
from collections import Counter

import numpy as np
from small_graphs import KINDS, drawn, table, types_of

from jaxinv.attacks.grain.counting import integer_counts, proportional_counts
from jaxinv.attacks.grain.multiplicities import Entry, System


def planted(secret, rows, noise=1e-8, colours=None):
    """A system that the types of a graph solve, and the true counts."""
    colours = secret.features[:, :KINDS].argmax(1) if colours is None else colours
    types, nodes = types_of(colours, secret.adjacency)
    counts = np.bincount(nodes, minlength=types.num)
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((rows, types.num))
    target = matrix @ (counts / counts.sum())
    target = target + noise * rng.uniform(-1, 1, len(target))
    entries = Entry(np.arange(types.num), np.zeros(types.num, int))
    return System(entries, matrix, target, noise), types, counts


def test_counts_are_the_smallest_in_proportion():
    star = drawn([0, 1, 1, 2], [(0, 1), (0, 2), (0, 3)])
    found, types, counts = planted(star, 8)
    shares = counts / counts.sum()
    sets = list(proportional_counts(found, shares, types, 1, 13))
    assert [len(s.types) for s in sets] == [4, 8, 12]
    for s in sets:
        np.testing.assert_array_equal(np.bincount(s.types), counts * len(s.types) // 4)
    # Of one type, joined to itself: an odd number has a half-edge left over.
    pair = drawn([0, 0], [(0, 1)])
    found, types, _ = planted(pair, 3)
    sets = list(proportional_counts(found, np.ones(1), types, 1, 7))
    assert [len(s.types) for s in sets] == [2, 4, 6]
    # Shares that no integers have, of so many nodes at most.
    found = found._replace(matrix=np.eye(2), target=np.array([0.37, 0.63]))
    entries = Entry(np.arange(2), np.zeros(2, int))
    apart = table([(0, []), (1, [])])
    found = found._replace(entries=entries)
    assert not list(proportional_counts(found, found.target, apart, 1, 50))
    (only,) = proportional_counts(found, found.target, apart, 1, 100)
    np.testing.assert_array_equal(np.bincount(only.types), [37, 63])


def test_counts_of_a_system_with_many_solutions_are_all_listed():
    secret = drawn([0, 1, 0, 1, 2, 0], [(0, 1), (1, 2), (2, 3), (1, 4), (3, 5)])
    found, types, counts = planted(secret, 3)
    assert types.num > 3
    num = counts.sum()
    given = list(integer_counts(found, types, 1, num))
    for size in range(1, num + 1):
        mine = {
            tuple(np.bincount(s.types, minlength=types.num).tolist())
            for s in given
            if len(s.types) == size
        }
        assert mine == set(solutions(found, types, size))
        assert len(mine) == sum(len(s.types) == size for s in given)
    assert tuple(counts.tolist()) in mine


def solutions(found, types, size):
    """All counts with the shares of the target and edges of two ends."""
    for rest in itertools.combinations_with_replacement(range(types.num), size):
        counts = np.bincount(np.array(rest), minlength=types.num)
        if np.abs(found.matrix @ counts / size - found.target).max() > 1e-5:
            continue
        ends = Counter()
        for own, others, count in zip(types.own, types.others, counts, strict=True):
            for other in others[others >= 0]:
                ends[int(own), int(other)] += int(count)
        twice = all(n % 2 == 0 for (a, b), n in ends.items() if a == b)
        if twice and all(ends[b, a] == n for (a, b), n in list(ends.items())):
            yield tuple(counts.tolist())
