"""GRAIN on real molecules with the network as published, and its compiled programs."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_graphs import AMBIGUOUS, FLOAT32, UNIQUE, attacked, sent, within

from jaxinv.data.graphs import KNOWN_MOLECULES, load_known_molecules, molecule_domain
from jaxinv.isomorphism import isomorphic
from jaxinv.models.graph_networks import build_graph_model

pytestmark = pytest.mark.usefixtures("compiled_quickly")

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
