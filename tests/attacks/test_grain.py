"""GRAIN: whole graphs, exactly, and never a certificate for a wrong one."""

import functools
import itertools
import logging
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinv.attacks.grain import Certificate, Limits, grain
from jaxinv.attacks.grain.assembly import Search
from jaxinv.attacks.grain.counting import integer_counts, proportional_counts
from jaxinv.attacks.grain.multiplicities import Counts, Entry, System
from jaxinv.attacks.grain.proposals import (
    multisets,
    neighbourhoods,
    num_multisets,
    num_neighbourhoods,
    refinements,
)
from jaxinv.attacks.grain.types import Types, closed
from jaxinv.data.graphs import KNOWN_MOLECULES, load_known_molecules, molecule_domain
from jaxinv.errors import InputError
from jaxinv.graph import ANY, FeatureGroup, Graph, GraphSpec, graph, padded
from jaxinv.isomorphism import isomorphic, isomorphism
from jaxinv.models.graph_networks import build_graph_model
from jaxinv.observation import observe

KINDS, DEGREES = 4, 5
SIZES = {
    "gcn": {"width": 64, "readout": (64, 16)},
    "gat": {"width": 48, "readout": (48, 32)},
}
# Times out on no machine: what bounds these searches are sizes.
LIMITS = Limits(nodes=8, class_nodes=8, seconds=100)
FLOAT32 = 2e-6
"""Distance of two gradients of one graph."""


@pytest.fixture(autouse=True, scope="module")
def compiled_quickly():
    """Most of the time of these tests is XLA's, which need not try hard here."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def spec(task="graph"):
    groups = FeatureGroup("kind", KINDS), FeatureGroup("degree", DEGREES)
    return GraphSpec(groups, 2, task, "degree")


@functools.cache
def victim(name, task="graph", **changes):
    """Model, weights, and the gradient of a padded graph."""
    model = build_graph_model(name, spec(task), **{**SIZES[name], **changes})
    return model, model.init(jax.random.key(0)), jax.jit(jax.grad(model.loss))


def drawn(kinds, edges, labels=0, of=None):
    n = len(kinds)
    adjacency = np.zeros((n, n))
    for i, j in edges:
        adjacency[i, j] = adjacency[j, i] = 1
    features = np.zeros((n, KINDS + DEGREES))
    features[np.arange(n), kinds] = 1
    features[np.arange(n), KINDS + adjacency.sum(1).astype(int)] = 1
    return graph(features, adjacency, labels, of)


def ring(n, start=0):
    return [(start + i, start + (i + 1) % n) for i in range(n)]


def sent(secret, of, key=None):
    """What a client with these weights returns; the server's weights, or others."""
    model, params, slope = of
    weights = params if key is None else model.init(jax.random.key(key))
    return jax.tree.map(np.asarray, slope(weights, padded(secret, 8)))


def attacked(update, of, limits=LIMITS, domain=ANY):
    model, params, _ = of
    seen = observe(params, update, num_examples=1, spec=model.spec)
    return grain(model, seen, domain=domain, limits=limits)


def distance(a, b):
    a, b = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)]) for t in (a, b))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def within(secret, graphs):
    return any(isomorphic(secret, g) for g in graphs)


def pieces(found, secret):
    """The graph so many times beside itself that it may be the secret.

    A mean over nodes does not count, so of equal pieces the attack gives one.
    """
    times = max(1, len(secret.mask) // len(found.mask))
    return Graph(
        np.tile(found.features, (times, 1)),
        np.kron(np.eye(times), found.adjacency),
        np.ones(times * len(found.mask)),
        found.labels,
    )


def check(found, update, of):
    """What holds of any outcome, whatever the truth is."""
    if found.certificate is Certificate.GAVE_UP:
        assert found.reason and found.stage in found.seconds, found
        assert not found.graphs and not found.complete and found.distance == np.inf
        return
    assert found.stage == "done" and not found.reason
    assert found.graph is found.graphs[0] and found.distance < 1e-5
    unique = found.certificate is Certificate.UNIQUE
    assert unique == (found.complete and len(found.graphs) == 1)
    for member in found.graphs[:4]:
        graph(member.features, member.adjacency, member.labels, of[0].spec)
        if len(member.mask) <= 8:
            assert distance(sent(member, of), update) < 1e-5
    for a, b in itertools.combinations(found.graphs[:6], 2):
        assert not isomorphic(a, b)


K4 = list(itertools.combinations(range(4), 2))
UNIQUE, AMBIGUOUS = Certificate.UNIQUE, Certificate.AMBIGUOUS
GRAPHS = {
    "single node": ([2], [], UNIQUE),
    "two nodes": ([0, 1], [(0, 1)], UNIQUE),
    "two equal nodes": ([1, 1], [(0, 1)], UNIQUE),
    "path": (range(4), [(0, 1), (1, 2), (2, 3)], UNIQUE),
    "star": ([0, 1, 2, 3, 3], [(0, i) for i in range(1, 5)], UNIQUE),
    # Rings also come twice as long, which has the same gradient.
    "ring of 3": (range(3), ring(3), AMBIGUOUS),
    "ring of 4": (range(4), ring(4), AMBIGUOUS),
    "ring of 3 with a tail": (range(4), [*ring(3), (2, 3)], AMBIGUOUS),
    "complete": (range(4), K4, AMBIGUOUS),
    "complete, equal nodes": ([0] * 4, K4, AMBIGUOUS),
    "two pieces": ([0, 1, 2, 3, 0], [(0, 1), (1, 2), (3, 4)], UNIQUE),
    "a node beside": (range(4), [(0, 1), (1, 2)], UNIQUE),
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("case", GRAPHS)
def test_small_graphs_are_found(case, name):
    kinds, edges, certificate = GRAPHS[case]
    label = len(case) % 2
    of, secret = victim(name), drawn(list(kinds), edges, label)
    update = sent(secret, of)
    found = attacked(update, of)
    check(found, update, of)
    assert found.certificate is certificate
    assert within(secret, found.graphs)
    assert found.distance < FLOAT32 and found.complete
    assert all(int(member.labels) == label for member in found.graphs)
    if (name, case) != ("gcn", "ring of 4"):
        # The smallest comes first; of that ring three arrangements look alike.
        assert isomorphic(secret, found.graph)


@st.composite
def random_graphs(draw):
    """Up to 8 nodes of few or many kinds, with sparse or many edges."""
    n = draw(st.integers(1, 8))
    most = draw(st.integers(0, KINDS - 1))
    kinds = draw(st.lists(st.integers(0, most), min_size=n, max_size=n))
    edges = draw(st.permutations(list(itertools.combinations(range(n), 2))))
    # Regular graphs of degree 4 are many, and the same comes up very often.
    cap = DEGREES - 1 if most else 3
    kept, degrees = [], Counter()
    for i, j in edges[: draw(st.integers(0, 2 * n))]:
        if max(degrees[i], degrees[j]) < cap:
            degrees.update((i, j))
            kept.append((i, j))
    return drawn(kinds, kept, draw(st.integers(0, 1)))


@pytest.mark.parametrize("name", SIZES)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(secret=random_graphs())
def test_no_wrong_graph_is_called_unique(name, secret):
    of = victim(name)
    update = sent(secret, of)
    found = attacked(update, of)
    check(found, update, of)
    if found.certificate is Certificate.GAVE_UP:
        # Only where the normalised adjacency has lost the gradient's rank: a GAT's
        # projections past the attention never do.
        assert name == "gcn" and found.stage == "neighbourhoods"
        return
    copies = [pieces(member, secret) for member in found.graphs]
    assert within(secret, copies)
    assert int(found.graph.labels) == int(secret.labels)


@pytest.mark.parametrize("name", SIZES)
def test_graphs_that_no_network_tells_apart_are_all_given(name):
    of = victim(name)
    hexagon = drawn([0] * 6, ring(6))
    triangles = drawn([0] * 6, ring(3) + ring(3, 3))
    assert distance(sent(hexagon, of), sent(triangles, of)) < FLOAT32
    for secret in (hexagon, triangles):
        update = sent(secret, of)
        found = attacked(update, of)
        check(found, update, of)
        assert found.certificate is AMBIGUOUS
        assert within(hexagon, found.graphs)
        # Of two equal pieces one is given; rings of 3 to 8, and pairs of two sizes.
        assert within(drawn([0] * 3, ring(3)), found.graphs)
        assert sorted(len(g.mask) for g in found.graphs) == [3, 4, 5, 6, 7, 7, 8, 8]
    # A ring of 6 with two tails (p-xylene), and half of it.
    whole = drawn([0] * 8, [*ring(6), (0, 6), (3, 7)])
    half = drawn([0] * 4, [*ring(3), (0, 3)])
    for secret in (whole, half):
        found = attacked(sent(secret, of), of)
        assert found.certificate is AMBIGUOUS
        assert within(whole, found.graphs) and within(half, found.graphs)


def test_a_domain_takes_its_pick_of_the_class():
    of = victim("gcn")
    hexagon = drawn([0] * 6, ring(6))

    def cost(given):
        return {3: 50.0, 6: 0.0, 8: 20.0}.get(len(given.mask), np.inf)

    found = attacked(sent(hexagon, of), of, domain=ANY._replace(cost=cost))
    assert [len(g.mask) for g in found.graphs] == [6, 8, 8, 3]
    assert isomorphic(hexagon, found.graph) and found.certificate is AMBIGUOUS
    only = ANY._replace(cost=lambda given: 0.0 if len(given.mask) == 6 else np.inf)
    found = attacked(sent(hexagon, of), of, domain=only)
    assert isomorphic(hexagon, found.graph) and found.certificate is UNIQUE
    # A domain without any of them says nothing.
    none = ANY._replace(cost=lambda given: np.inf)
    assert len(attacked(sent(hexagon, of), of, domain=none).graphs) == 8
    # Nor can a node be what the domain rules out.
    no_node = ANY._replace(node=lambda rows: np.zeros(len(rows), bool))
    found = attacked(sent(hexagon, of), of, domain=no_node)
    assert found.certificate is Certificate.GAVE_UP and found.stage == "node types"


SALT, TAILED = (
    drawn(list(GRAPHS[c][0]), GRAPHS[c][1], 1)
    for c in ("two pieces", "ring of 3 with a tail")
)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("secret", [SALT, TAILED], ids=["salt", "ring"])
def test_a_gradient_of_other_weights_gives_no_graph(name, secret):
    of = victim(name)
    update = sent(secret, of, key=9)
    found = attacked(update, of)
    check(found, update, of)
    assert found.certificate is Certificate.GAVE_UP
    assert found.graph is None and "not this model's" in found.reason


def test_zeros_give_up_and_nan_is_refused():
    of = victim("gcn")
    update = sent(SALT, of)
    zero = jax.tree.map(np.zeros_like, update)
    found = attacked(zero, of)
    check(found, zero, of)
    assert found.stage == "node types" and found.reason == "the gradient is zero"
    broken = jax.tree.map(np.copy, update)
    broken["layers"][1]["kernel"][3, 4] = np.nan
    with pytest.raises(InputError, match=r"^update\['layers'\]\[1\]\['kernel'\]"):
        attacked(broken, of)


@pytest.mark.parametrize("name", SIZES)
def test_more_different_nodes_than_units_give_up(name):
    # GELU, for of so few units ReLU may leave none.
    narrow = {"gcn": {"width": 2, "activation": "gelu"}, "gat": {"width": 2}}[name]
    of = victim(name, readout=(16, 8), **narrow)
    edges = [(i, i + 1) for i in range(7)] + [(1, 5)]
    secret = drawn([0, 1, 2, 3, 0, 1, 2, 3], edges)
    update = sent(secret, of)
    found = attacked(update, of)
    check(found, update, of)
    assert found.certificate is Certificate.GAVE_UP
    assert found.stage == "neighbourhoods"
    # The smallest value of a square may be far below the others by chance.
    if name == "gat":
        assert "as many different neighbourhoods or more" in found.reason


def test_limits_are_kept():
    of = victim("gcn")
    update = sent(SALT, of)
    few = attacked(update, of, limits=LIMITS._replace(candidates=3))
    check(few, update, of)
    assert few.stage == "neighbourhoods" and "at most 3" in few.reason
    small = attacked(update, of, limits=LIMITS._replace(nodes=4))
    check(small, update, of)
    assert small.stage == "assembly" and small.graph is None
    # A class that was not listed to its end is never said to be complete.
    hexagon = sent(drawn([0] * 6, ring(6)), of)
    for limits in (LIMITS._replace(graphs=1), LIMITS._replace(seconds=0.0)):
        found = attacked(hexagon, of, limits=limits)
        assert not found.complete and found.certificate is not UNIQUE


def noisy(update, scale, seed=0):
    rng = np.random.default_rng(seed)

    def one(leaf):
        size = scale * np.linalg.norm(leaf) / leaf.size**0.5
        return (leaf + size * rng.standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree.map(one, update)


@pytest.mark.parametrize("name", SIZES)
def test_noise_makes_no_wrong_graph(name):
    of = victim(name)
    update = sent(SALT, of)
    faint = attacked(noisy(update, 1e-6), of)
    assert isomorphic(SALT, faint.graph) and faint.certificate is UNIQUE
    worse = {scale: noisy(update, scale) for scale in (1e-3, 1e-2)}
    worse["float16"] = jax.tree.map(lambda x: x.astype(np.float16), update)
    for case, seen in worse.items():
        found = attacked(seen, of)
        check(found, seen, of)
        exact = found.graph is not None and isomorphic(SALT, found.graph)
        assert exact or found.certificate is not UNIQUE
        assert case != 1e-2 or found.certificate is Certificate.GAVE_UP


def test_features_that_do_not_state_the_degree_are_refused():
    groups = FeatureGroup("kind", KINDS), FeatureGroup("degree", DEGREES)
    model = build_graph_model("gcn", GraphSpec(groups, 2), **SIZES["gcn"])
    _, params, _ = victim("gcn")
    seen = observe(params, params, num_examples=1, spec=model.spec)
    with pytest.raises(InputError, match=r"^degree is None; [^\n]*expects"):
        grain(model, seen)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("name", SIZES)
def test_the_label_is_read_from_the_output_bias(name, label):
    of = victim(name)
    path = drawn(list(range(4)), GRAPHS["path"][1], label)
    found = attacked(sent(path, of), of)
    assert isomorphic(path, found.graph)
    assert all(np.shape(g.labels) == () and g.labels == label for g in found.graphs)


NODE_TASKS = {
    "single node": ([0], [], [1]),
    "two nodes": ([0, 1], [(0, 1)], [1, 0]),
    "path": ([0, 1, 2, 3], GRAPHS["path"][1], [0, 1, 1, 0]),
    # Two nodes that look alike may still have different labels.
    "alike": ([0, 1, 0], [(0, 1), (1, 2)], [1, 1, 0]),
}


@pytest.mark.parametrize("case", NODE_TASKS)
def test_labels_of_nodes_come_with_the_graph(case):
    of = victim("gcn", "node")
    kinds, edges, labels = NODE_TASKS[case]
    secret = drawn(kinds, edges, labels)
    found = attacked(sent(secret, of), of)
    assert found.certificate is UNIQUE
    order = isomorphism(secret, found.graph)
    given = found.graph.labels[order]
    if case == "alike":
        given = np.r_[np.sort(given[[0, 2]])[::-1], given[1]][[0, 2, 1]]
    np.testing.assert_array_equal(given, labels)


def test_a_rank_that_the_adjacency_has_lost_is_found_again():
    # Butane-2,3-diol, CC(O)C(C)O: the spread of its types is singular.
    of = victim("gcn")
    edges = [(0, 1), (1, 2), (1, 3), (3, 4), (3, 5)]
    diol = drawn([0, 1, 2, 1, 0, 2], edges)
    update = sent(diol, of)
    found = attacked(update, of)
    check(found, update, of)
    assert isomorphic(diol, found.graph) and found.certificate is UNIQUE
    # One of the three neighbourhoods is not in the second layer's gradient.
    assert found.counts["ranks"][1] == 2 and found.counts["types"][1] == 3


# Parts


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


def table(rows, degrees=None):
    """Types from `(own, others)`."""
    width = max(len(others) for _, others in rows)
    others = [[*sorted(near), *[-1] * (width - len(near))] for _, near in rows]
    counts = np.array([len(near) for _, near in rows])
    own = np.array([mine for mine, _ in rows])
    return Types(
        own, np.array(others, int).reshape(len(rows), -1), counts, counts[:, None]
    )


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


def types_of(colours, adjacency):
    """Types of one level above the colours, and each node's."""
    rows = [
        (int(c), tuple(sorted(colours[np.flatnonzero(a)].tolist())))
        for c, a in zip(colours, adjacency, strict=True)
    ]
    every = sorted(set(rows))
    return table(every), np.sort([every.index(row) for row in rows])


def realisations(types, nodes):
    """Canonical forms of all simple graphs of nodes of these types, by brute force."""
    n = len(nodes)
    colour, others = types.own[nodes], types.others[nodes]
    size = int(max(types.own.max(), types.others.max(initial=0))) + 1
    wanted = np.stack([(others == c).sum(1) for c in range(size)], 1)
    pairs = np.array(list(itertools.combinations(range(n), 2)), int).reshape(-1, 2)
    bits = (np.arange(1 << len(pairs))[:, None] >> np.arange(len(pairs))) & 1
    every = np.zeros((len(bits), n, n), int)
    every[:, pairs[:, 0], pairs[:, 1]] = bits
    every += every.swapaxes(1, 2)
    fits = (every @ np.eye(size, dtype=int)[colour] == wanted).all((1, 2))
    return {canonical(nodes, adjacency) for adjacency in every[fits]}


def canonical(nodes, adjacency):
    orders = [
        list(order)
        for order in itertools.permutations(range(len(nodes)))
        if (nodes[list(order)] == nodes).all()
    ]
    return max(adjacency[order][:, order].astype(int).tobytes() for order in orders)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(random_graphs().filter(lambda g: len(g.mask) <= 6), st.booleans())
def test_the_search_lists_every_graph(secret, alike):
    colours = (
        np.zeros(len(secret.mask), int)
        if alike
        else secret.features[:, :KINDS].argmax(1)
    )
    types, nodes = types_of(colours, secret.adjacency)
    search = Search(types, Counts(nodes, 0 * nodes), until=np.inf)
    found = list(search.graphs())
    for adjacency in found:
        assert (adjacency == adjacency.T).all() and not np.diag(adjacency).any()
    assert not search.exhausted
    assert {canonical(nodes, a) for a in found} == realisations(types, nodes)


def test_the_search_ends_in_time():
    types, nodes = types_of(np.zeros(8, int), drawn([0] * 8, ring(8)).adjacency)
    search = Search(types, Counts(nodes, 0 * nodes), until=-1.0)
    assert not list(search.graphs()) and search.exhausted
    # Half-edges that do not go up: no graph, and the search says it is all.
    search = Search(types, Counts(nodes[:2], 0 * nodes[:2]), until=np.inf)
    assert not list(search.graphs()) and not search.exhausted


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
    sets = list(proportional_counts(found, shares, types, 13))
    assert [len(s.types) for s in sets] == [4, 8, 12]
    for s in sets:
        np.testing.assert_array_equal(np.bincount(s.types), counts * len(s.types) // 4)
    # Of one type, joined to itself: an odd number has a half-edge left over.
    pair = drawn([0, 0], [(0, 1)])
    found, types, _ = planted(pair, 3)
    sets = list(proportional_counts(found, np.ones(1), types, 7))
    assert [len(s.types) for s in sets] == [2, 4, 6]
    # Shares that no integers have, of so many nodes at most.
    found = found._replace(matrix=np.eye(2), target=np.array([0.37, 0.63]))
    entries = Entry(np.arange(2), np.zeros(2, int))
    apart = table([(0, []), (1, [])])
    found = found._replace(entries=entries)
    assert not list(proportional_counts(found, found.target, apart, 50))
    (only,) = proportional_counts(found, found.target, apart, 100)
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


# Molecules

MOLECULES = {
    "water": UNIQUE,
    "ethanol": UNIQUE,
    "acetone": UNIQUE,
    "urea": UNIQUE,
    "ethylene oxide": AMBIGUOUS,
    "glycine": UNIQUE,
    "sodium acetate": UNIQUE,
    "furan": UNIQUE,
    "L-alanine": UNIQUE,
}


@functools.cache
def chemist():
    source = load_known_molecules()
    model = build_graph_model("gcn", source.spec)
    of = model, model.init(jax.random.key(0)), jax.jit(jax.grad(model.loss))
    graphs = dict(zip(KNOWN_MOLECULES, source.graphs, strict=True))
    return of, graphs, molecule_domain(source.spec)


def molecule_attacked(name):
    of, graphs, domain = chemist()
    return graphs[name], attacked(sent(graphs[name], of), of, domain=domain)


@pytest.mark.parametrize("name", MOLECULES)
def test_molecules_are_exact(name):
    secret, found = molecule_attacked(name)
    assert found.certificate is MOLECULES[name]
    assert within(secret, found.graphs) and found.distance < FLOAT32
    if found.certificate is UNIQUE:
        assert isomorphic(secret, found.graph)
    assert int(found.graph.labels) == int(secret.labels)


def test_a_second_run_is_the_same_and_compiles_nothing(caplog):
    _, first = molecule_attacked("glycine")
    molecule_attacked("urea")
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        _, again = molecule_attacked("glycine")
        # Another one with the same degrees.
        molecule_attacked("acetone")
        compiled = [r.message for r in caplog.records if "Compiling" in r.message]
        assert not compiled
        caplog.clear()
        jax.jit(lambda x: x + 17)(jnp.ones(3))
        assert any("Compiling" in r.message for r in caplog.records)
    assert again.certificate is first.certificate and again.distance == first.distance
    for a, b in zip(first.graphs, again.graphs, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)
