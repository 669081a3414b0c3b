"""Graphs whose nodes are all different: many neighbours, words instead of choices."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinv.attacks.grain import Certificate, grain
from jaxinv.attacks.grain.distinct.closed_neighbourhoods import (
    owners,
    same_closed_neighbourhoods,
)
from jaxinv.attacks.grain.distinct.read_nodes import distinct_nodes
from jaxinv.graph import FeatureGroup, GraphSpec, graph, padded
from jaxinv.isomorphism import isomorphic
from jaxinv.models.graph_networks import build_graph_model
from jaxinv.observation import observe

WORDS, MOST = 40, 12


def edges(rng, num, chance):
    upper = np.triu(rng.random((num, num)) < chance, 1)
    return (upper + upper.T).astype(np.float32)


def drawn(seed, num, chance, *, degree, alike=False, nested=False):
    """A random graph with random words, and what normalises it."""
    rng = np.random.default_rng(seed)
    words = (rng.random((num, WORDS)) < 0.2).astype(np.float32)
    if alike:
        words[1] = words[0]
    if nested:  # so that 0 + 1 - 2 is a row of zeros and ones as well
        words[2] = words[0] * words[1]
    return labelled(words, edges(rng, num, chance), seed, degree=degree)


def labelled(words, adjacency, seed, *, degree):
    groups = [FeatureGroup("words", WORDS, exclusive=False)]
    features = words
    if degree:
        groups.append(FeatureGroup("degree", MOST))
        hot = np.eye(MOST, dtype=np.float32)[adjacency.sum(1).astype(int)]
        features = np.concatenate([words, hot], 1)
    mean = np.full(features.shape[1], 0.15)
    spec = GraphSpec(
        tuple(groups),
        3,
        degree="degree" if degree else None,
        mean=tuple(mean),
        std=tuple(np.sqrt(mean * (1 - mean))),
    )
    return graph(features, adjacency, seed % 3, spec), spec


def attacked(secret, spec, *, seed=0, noise=0.0):
    model = build_graph_model("gcn", spec, width=64, readout=(64, 16))
    params, sender = model.init(jax.random.key(0)), model.init(jax.random.key(seed))
    update = jax.device_get(jax.grad(model.loss)(sender, padded(secret, 16)))
    rng = np.random.default_rng(1)
    update = jax.tree.map(
        lambda x: x + (noise * x.std() * rng.normal(size=x.shape)).astype(x.dtype),
        update,
    )
    return grain(model, observe(params, update, num_examples=1, spec=spec))


@pytest.mark.parametrize("degree", [True, False])
def test_dense_graphs_come_back(degree):
    """With some six neighbours a node, and their number known or not."""
    secret, spec = drawn(3, 12, 0.5, degree=degree)
    found = attacked(secret, spec)
    assert found.certificate is Certificate.UNIQUE, found.reason
    assert isomorphic(secret, found.graph)
    assert found.graph is not None and found.graph.labels == secret.labels
    assert found.distance < 1e-5


def test_one_node_alone_comes_back():
    secret, spec = drawn(5, 1, 0.5, degree=True)
    found = attacked(secret, spec)
    assert found.certificate is Certificate.UNIQUE
    assert isomorphic(secret, found.graph)


def test_another_models_gradient_gives_no_graph():
    secret, spec = drawn(3, 12, 0.5, degree=True)
    found = attacked(secret, spec, seed=1)
    assert found.certificate is Certificate.GAVE_UP and found.graph is None
    assert found.reason


def test_nodes_alike_and_noise_make_it_give_up():
    secret, spec = drawn(4, 8, 0.4, degree=False, alike=True)
    found = attacked(secret, spec)
    assert found.certificate is Certificate.GAVE_UP or isomorphic(secret, found.graph)
    secret, spec = drawn(3, 12, 0.5, degree=True)
    found = attacked(secret, spec, noise=1e-2)
    assert found.certificate is Certificate.GAVE_UP and found.graph is None


def wheel():
    """A hub and a rim of four, with two more nodes at the hub."""
    adjacency = np.zeros((7, 7), np.float32)
    for a, b in ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6)):
        adjacency[a, b] = adjacency[b, a] = 1
    adjacency[:4, 4] = adjacency[4, :4] = 1
    return adjacency


@pytest.mark.parametrize("degree", [True, False])
def test_what_closed_neighbourhoods_do_not_tell_is_listed(degree):
    """The three rims have one gradient: no attack can tell them apart."""
    words = (np.random.default_rng(0).random((7, WORDS)) < 0.3).astype(np.float32)
    secret, spec = labelled(words, wheel(), 1, degree=degree)
    found = attacked(secret, spec)
    assert found.certificate is Certificate.AMBIGUOUS and found.complete
    assert len(found.graphs) == 3
    assert sum(isomorphic(secret, other) for other in found.graphs) == 1


def test_mixtures_of_nodes_that_look_like_nodes_are_told_from_them():
    secret, spec = drawn(0, 10, 0.4, degree=False, nested=True)
    model = build_graph_model("gcn", spec, width=64, readout=(64, 16))
    params = model.init(jax.random.key(0))
    update = jax.device_get(jax.grad(model.loss)(params, padded(secret, 16)))
    nodes = distinct_nodes(model, params, update)
    assert sorted(map(tuple, nodes.features)) == sorted(map(tuple, secret.features))


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8), st.floats(0.1, 0.9), st.booleans())
def test_what_is_called_unique_is_the_truth(seed, num, chance, degree):
    secret, spec = drawn(seed, num, chance, degree=degree)
    found = attacked(secret, spec)
    if found.certificate is Certificate.UNIQUE:
        assert isomorphic(secret, found.graph)
    if found.certificate is Certificate.AMBIGUOUS and found.complete:
        assert any(isomorphic(secret, other) for other in found.graphs)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.floats(0.2, 1.0))
def test_closed_neighbourhoods_against_all_graphs(seed, num, chance):
    adjacency = edges(np.random.default_rng(seed), num, chance)
    found = [other.tobytes() for other in same_closed_neighbourhoods(adjacency)]
    upper, eye = np.triu_indices(num, 1), np.eye(num, dtype=np.float32)
    expected = set()
    for bits in itertools.product((0, 1), repeat=len(upper[0])):
        other = np.zeros((num, num), np.float32)
        other[upper] = bits
        other += other.T
        if sorted(map(tuple, other + eye)) == sorted(map(tuple, adjacency + eye)):
            expected.add(other.tobytes())
    assert len(found) == len(set(found)) and set(found) == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.booleans())
def test_owners_of_closed_neighbourhoods_are_those_of_every_graph(seed, num, known):
    rng = np.random.default_rng(seed)
    adjacency = edges(rng, num, rng.random())
    closed = (adjacency > 0) | np.eye(num, dtype=bool)
    sets = np.unique(closed[rng.random(num) < 0.7], axis=0)
    degrees = adjacency.sum(1) if known else None
    for row, node in zip(sets, owners(sets, degrees), strict=True):
        if node >= 0:
            for other in itertools.islice(same_closed_neighbourhoods(adjacency), 20):
                assert (row == (other[node] > 0) | (np.arange(num) == node)).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gat", {"width": 48, "readout": (48, 32)}),
        ("gcn", {"width": 64, "readout": (64, 16), "concat": False}),
    ],
)
def test_readouts_that_do_not_see_the_features(name, options):
    """Nothing is called unique there, and another model's gradient gives nothing."""
    secret, spec = drawn(5, 7, 0.4, degree=True)
    model = build_graph_model(name, spec, **options)
    gradient = jax.jit(jax.grad(model.loss))
    params, other = (model.init(jax.random.key(i)) for i in (0, 1))
    update = jax.device_get(gradient(params, padded(secret, 8)))
    found = grain(model, observe(params, update, num_examples=1, spec=spec))
    assert found.certificate is Certificate.AMBIGUOUS and not found.complete
    assert isomorphic(secret, found.graph)
    wrong = grain(model, observe(other, update, num_examples=1, spec=spec))
    assert wrong.certificate is Certificate.GAVE_UP and wrong.reason
