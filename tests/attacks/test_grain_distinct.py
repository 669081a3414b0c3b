"""Graphs whose nodes are all different: many neighbours, words instead of choices."""

import jax
import numpy as np
import pytest

from jaxinv.attacks.grain import Certificate, grain
from jaxinv.graph import FeatureGroup, GraphSpec, graph, padded
from jaxinv.isomorphism import isomorphic
from jaxinv.models.graph_networks import build_graph_model
from jaxinv.observation import observe

WORDS, MOST = 40, 12


def drawn(seed, num, chance, *, degree, alike=False):
    """A random graph with random words, and what normalises it."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((num, num)) < chance, 1)
    adjacency = (upper + upper.T).astype(np.float32)
    words = (rng.random((num, WORDS)) < 0.2).astype(np.float32)
    if alike:
        words[1] = words[0]
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
    assert found.distance < 1e-5 and found.graph.labels == secret.labels


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
