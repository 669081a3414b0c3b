"""GRAIN: the search for graphs of given nodes, against all graphs there are."""

import math
from collections import Counter

import networkx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_graphs import (
    KINDS,
    canonical,
    drawn,
    random_graphs,
    realisations,
    ring,
    types_of,
)

from jaxinv.attacks.grain.assembly import Search
from jaxinv.graph import ANY


@settings(max_examples=25, deadline=None, derandomize=True)
@given(random_graphs().filter(lambda g: len(g.mask) <= 6), st.booleans())
def test_the_search_lists_every_graph(secret, alike):
    colours = (
        np.zeros(len(secret.mask), int)
        if alike
        else secret.features[:, :KINDS].argmax(1)
    )
    types, nodes = types_of(colours, secret.adjacency)
    search = Search(types, nodes, until=np.inf)
    found = list(search.graphs())
    for adjacency in found:
        assert (adjacency == adjacency.T).all() and not np.diag(adjacency).any()
    assert not search.exhausted
    assert {canonical(nodes, a) for a in found} == realisations(types, nodes)


def test_the_search_ends_in_time():
    types, nodes = types_of(np.zeros(8, int), drawn([0] * 8, ring(8)).adjacency)
    search = Search(types, nodes, until=-1.0)
    assert not list(search.graphs()) and search.exhausted
    # Half-edges that do not go up: no graph, and the search says it is all.
    search = Search(types, nodes[:2], until=np.inf)
    assert not list(search.graphs()) and not search.exhausted


COSTLY = ANY._replace(ring=lambda size: {3: 2.0, 4: 0.5}.get(size, 0.0), piece=1.5)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(random_graphs().filter(lambda g: len(g.mask) <= 6))
def test_a_search_by_cost_leaves_no_graph_out(secret):
    types, nodes = types_of(np.zeros(len(secret.mask), int), secret.adjacency)
    search = Search(types, nodes, until=math.inf, domain=COSTLY)
    found, above, most = [], -1.0, 0.0
    while most < math.inf:
        found += [(most, canonical(nodes, a)) for a in search.graphs(above, most)]
        assert search.beyond > most
        above, most = most, search.beyond
    assert {graph for _, graph in found} == realisations(types, nodes)
    # In one go it meets the very same ones.
    whole = Search(types, nodes, until=math.inf, domain=COSTLY).graphs()
    every = Counter(canonical(nodes, a) for a in whole)
    assert every == Counter(graph for _, graph in found)


def test_rings_that_cost_less_come_first():
    def rings(most):
        types, nodes = types_of(np.zeros(8, int), drawn([0] * 8, ring(8)).adjacency)
        search = Search(types, nodes, until=math.inf, domain=COSTLY)
        sizes = {
            tuple(sorted(map(len, networkx.connected_components(whole))))
            for a in search.graphs(most=most)
            for whole in [networkx.from_numpy_array(a)]
        }
        return sizes, search.beyond

    assert rings(0.0) == ({(8,)}, 1.5)
    # Rings of 3 and 5 cost 2 beside the 1.5 of a piece, rings of 4 half each.
    assert rings(2.9) == ({(8,), (4, 4)}, 3.5)
    assert rings(math.inf) == ({(8,), (4, 4), (3, 5)}, math.inf)
