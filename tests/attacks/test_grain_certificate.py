"""GRAIN: whole graphs, exactly, and never a certificate for a wrong one."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from small_graphs import (
    AMBIGUOUS,
    FLOAT32,
    SIZES,
    UNIQUE,
    attacked,
    check,
    distance,
    drawn,
    pieces,
    random_graphs,
    ring,
    sent,
    victim,
    within,
)

from jaxinv.attacks.grain import Certificate
from jaxinv.graph import ANY
from jaxinv.isomorphism import isomorphic

pytestmark = pytest.mark.usefixtures("compiled_quickly")

K4 = list(itertools.combinations(range(4), 2))


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


OTHERS = {
    "features not read out": ("gcn", "graph", {"concat": False}),
    "labels of nodes": ("gcn", "node", {}),
}


@pytest.mark.parametrize("case", OTHERS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(secret=random_graphs())
def test_nor_by_other_networks(case, secret):
    name, task, options = OTHERS[case]
    of = victim(name, task, **options)
    if task == "node":
        labels = (secret.features[:, 0] + secret.adjacency[0]).astype(np.int32) % 2
        secret = secret._replace(labels=labels)
    update = sent(secret, of)
    found = attacked(update, of)
    assert found.certificate is Certificate.GAVE_UP or within(
        secret, [pieces(member, secret) for member in found.graphs]
    )


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
