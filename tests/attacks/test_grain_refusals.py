"""GRAIN on what is no gradient of its model: one line each, and never a graph."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.attacks.grain import Certificate, Limits, grain
from jaxinv.errors import InputError
from jaxinv.graph import FeatureGroup, GraphSpec, graph
from jaxinv.local_training import LocalTraining
from jaxinv.models.graph_networks import build_graph_model
from jaxinv.observation import observe

GROUPS = FeatureGroup("kind", 3), FeatureGroup("degree", 3)
SPEC = GraphSpec(GROUPS, 2, "graph", "degree")
LIMITS = Limits(nodes=6, class_nodes=6, seconds=1)


pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(scope="module")
def case():
    """A model, its weights, and the gradient of a path of four nodes."""
    model = build_graph_model("gcn", SPEC, width=24, readout=(24, 16))
    adjacency = np.eye(4, k=1) + np.eye(4, k=-1)
    features = np.zeros((4, 6))
    features[range(4), [0, 1, 2, 1]] = 1
    features[range(4), 3 + adjacency.sum(1).astype(int)] = 1
    params = model.init(jax.random.key(0))
    secret = graph(features, adjacency, 1, SPEC)
    return model, params, jax.jit(jax.grad(model.loss))(params, secret)


def seen(params, update, **options):
    return observe(params, update, num_examples=1, spec=SPEC, **options)


def changed(update, layer, leaf):
    """The update with another kernel of a layer."""
    layers = list(update["layers"])
    layers[layer] = {"kernel": leaf(update["layers"][layer]["kernel"])}
    return {**update, "layers": layers}


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda k: k.at[2, 3].set(jnp.nan), "holds 1 values that are NaN or infinite"),
        (lambda k: k.at[:2].set(jnp.inf), "holds 48 values that are NaN or infinite"),
        (lambda k: k[:3], r"has shape \(3, 24\); expected \(6, 24\) as in params"),
        (lambda k: None, "it lacks"),
        (lambda k: k.astype(int), "is int32; expected floating point"),
    ],
)
def test_a_corrupt_gradient_is_refused(case, broken, says):
    _, params, update = case
    with pytest.raises(InputError, match=says) as refused:
        seen(params, changed(update, 0, broken))
    assert "\n" not in str(refused.value)


def test_what_is_of_another_network_is_refused(case):
    model, params, update = case
    other = build_graph_model("gat", SPEC, width=8, readout=(8,))
    with pytest.raises(InputError, match="does not have the structure of params"):
        seen(other.init(jax.random.key(0)), update)
    with pytest.raises(InputError, match=r"expected .* of a gat of depth 2 and"):
        grain(other, seen(params, update))
    with pytest.raises(InputError, match="limits is 5; expected Limits"):
        grain(model, seen(params, update), limits=5)  # pyright: ignore


def test_a_step_size_of_next_to_nothing_is_refused(case):
    model, params, update = case
    local = LocalTraining(1e-38, 1)
    delta = jax.tree.map(lambda leaf: -0.1 * leaf, update)
    whole = seen(params, delta, sent="delta", local_training=local)
    with pytest.raises(InputError, match="learning_rate 1e-38; expected one"):
        grain(model, whole)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("of other weights", None),
        ("zero", lambda u: jax.tree.map(jnp.zeros_like, u)),
        ("a layer zeroed", lambda u: changed(u, 1, jnp.zeros_like)),
        ("units in another order", lambda u: changed(u, 1, lambda k: k[:, ::-1])),
        ("half of it lost", lambda u: changed(u, 0, lambda k: k.at[:3].set(0))),
        ("random", lambda u: jax.tree.map(lambda x: jnp.sin(1e6 * x + 1), u)),
        ("times ten", lambda u: jax.tree.map(lambda x: 10 * x, u)),
    ],
)
def test_what_is_no_gradient_of_the_model_gives_no_graph(case, name, made):
    model, params, update = case
    if made is None:
        params, made = model.init(jax.random.key(1)), lambda u: u
    found = grain(model, seen(params, made(update)), limits=LIMITS)
    assert found.certificate is Certificate.GAVE_UP and found.graph is None, name
    assert found.reason and "\n" not in found.reason
