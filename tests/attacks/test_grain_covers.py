"""GRAIN: larger graphs that a mean over nodes does not tell from a smaller one."""

import jax
import numpy as np
import pytest
from small_graphs import (
    AMBIGUOUS,
    FLOAT32,
    UNIQUE,
    attacked,
    distance,
    drawn,
    ring,
    sent,
    victim,
    within,
)

from jaxinv.attacks.grain import LIMITS, grain
from jaxinv.attacks.grain.covers import copies, crossed, is_copies
from jaxinv.data.graphs import load_known_molecules, molecule_domain, molecule_graph
from jaxinv.graph import ANY, padded
from jaxinv.isomorphism import isomorphic
from jaxinv.models.graph_networks import build_graph_model
from jaxinv.observation import observe

pytestmark = pytest.mark.usefixtures("compiled_quickly")

TREE = drawn([0, 1, 2, 0], [(0, 1), (1, 2), (2, 3)])
TRIANGLE = drawn([0, 1, 2], ring(3))


def test_copies_are_told_from_other_covers():
    hexagon = drawn([0, 1, 2] * 2, ring(6))
    assert is_copies(copies(TRIANGLE, 3), TRIANGLE)
    assert not is_copies(hexagon, TRIANGLE)
    assert not is_copies(TRIANGLE, TRIANGLE) and not is_copies(TREE, TRIANGLE)


def test_a_tree_has_no_double_and_a_ring_has_the_ring_of_twice_its_size():
    assert crossed(TREE, 2, ANY, np.inf) == []
    (double,) = crossed(TRIANGLE, 2, ANY, np.inf)
    assert isomorphic(double, drawn([0, 1, 2] * 2, ring(6)))
    # The domain may rule it out, and time may run out.
    never = ANY._replace(cost=lambda graph: np.inf)
    assert crossed(TRIANGLE, 2, never, np.inf) == []
    assert crossed(TRIANGLE, 2, ANY, -np.inf) == []


@pytest.mark.parametrize("name", ["gcn", "gat"])
def test_the_double_has_the_gradient_and_takes_the_certificate(name):
    of = victim(name)
    secret = drawn([0, 1, 2, 3, 1], [*ring(5)])
    update = sent(secret, of)
    (double,) = crossed(secret, 2, ANY, np.inf)
    assert distance(sent(double, of), update) < FLOAT32
    # Larger than the class goes, and still not called unique.
    found = attacked(update, of, LIMITS._replace(class_nodes=5))
    assert found.certificate is AMBIGUOUS and found.nodes_up_to == 5
    assert [len(member.mask) for member in found.graphs] == [5, 10]
    assert isomorphic(found.graph, secret)


def test_a_known_number_of_nodes_settles_it():
    of = victim("gcn")
    ten = drawn([0, 1, 2, 3, 1] * 2, ring(10))
    for secret, others in ((ten, 1), (drawn([0, 1, 2, 3, 1], ring(5)), 0)):
        model, params, _ = of
        n = len(secret.mask)
        seen = observe(
            params, sent(secret, of), num_examples=1, spec=model.spec, num_nodes=n
        )
        found = grain(model, seen)
        assert {len(member.mask) for member in found.graphs} == {n}
        assert within(secret, found.graphs) and len(found.graphs) == 1 + others
        assert (found.certificate is UNIQUE) == (others == 0)


def test_a_crown_ether_is_not_taken_for_its_half():
    source = load_known_molecules()
    crown = molecule_graph("O1CCOc2ccccc2OCCOCCOc2ccccc2OCC1", 0, source.spec)
    model = build_graph_model("gcn", source.spec)
    params = model.init(jax.random.key(0))
    update = jax.tree.map(np.asarray, jax.grad(model.loss)(params, padded(crown, 32)))
    seen = observe(params, update, num_examples=1, spec=source.spec)
    found = grain(model, seen, domain=molecule_domain(source.spec))
    assert found.certificate is AMBIGUOUS and within(crown, found.graphs)
    assert found.graph.num_nodes == 13
