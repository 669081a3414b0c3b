"""GRAIN: noise, other weights, too small a network: no graph, and why."""

import time

import jax
import numpy as np
import pytest
from small_graphs import (
    DEGREES,
    KINDS,
    LIMITS,
    SIZES,
    UNIQUE,
    attacked,
    check,
    drawn,
    ring,
    sent,
    victim,
)

from jaxinv.attacks.grain import Certificate, grain
from jaxinv.errors import InputError
from jaxinv.graph import FeatureGroup, GraphSpec
from jaxinv.isomorphism import isomorphic
from jaxinv.models.graph_networks import build_graph_model
from jaxinv.observation import observe

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SALT = drawn([0, 1, 2, 3, 0], [(0, 1), (1, 2), (3, 4)], 1)
TAILED = drawn([0, 1, 2, 3], [*ring(3), (2, 3)], 1)


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


@pytest.mark.parametrize("seed", [1, 2])
def test_noise_that_leaves_too_much_open_ends_in_time(seed):
    # Every number of some hundred types is nearly free: this search once did not end.
    of, limits = victim("gcn"), LIMITS._replace(nodes=100, seconds=1.0)
    update = noisy(sent(TAILED, of), 1e-2, seed)
    start = time.monotonic()
    found = attacked(update, of, limits=limits)
    # What is compiled on the way, and one step that does not look at the clock.
    assert time.monotonic() - start < limits.seconds + 60
    check(found, update, of)
    assert found.certificate is Certificate.GAVE_UP
    assert found.stage == "multiplicities" and "time" in found.reason
