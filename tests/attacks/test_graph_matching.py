"""Baselines on graphs: what they find, what they refuse, and what order is worth."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.attacks.base import Status, iterate, restarts
from jaxinv.attacks.graph_matching import (
    graph_dlg,
    graph_tableak,
    in_order_of_first,
    median,
)
from jaxinv.attacks.graph_space import relaxed_graphs, snapped
from jaxinv.errors import InputError, KnowledgeError
from jaxinv.graph import FeatureGroup, Graph, GraphSpec, graph
from jaxinv.models.graph_networks import build_graph_model
from jaxinv.observation import observe

GROUPS = (FeatureGroup("kind", 4), FeatureGroup("words", 3, False))
SPEC = GraphSpec(GROUPS, 2, std=(1.0,) * 6 + (0.5,))
MODEL = build_graph_model("gcn", SPEC, width=16, readout=(16, 8), activation="gelu")
PATH = np.diag(np.ones(2), 1) + np.diag(np.ones(2), -1)
KEY = jax.random.key(0)
INIT, SLOPE = jax.jit(MODEL.init), jax.jit(jax.grad(MODEL.loss))
# The time of these tests is XLA's compilation.
QUICK = {"xla_backend_optimization_level": 0}


def planted(seed, adjacency=PATH, spec=SPEC):
    rng = np.random.default_rng(seed)
    n = len(adjacency)
    features = np.zeros((n, 7))
    features[np.arange(n), rng.integers(0, 4, n)] = 1
    features[:, 4:] = rng.integers(0, 2, (n, 3))
    labels = rng.integers(0, 2, () if spec.task == "graph" else n)
    return graph(features, adjacency, labels, spec)


def seen(secret, seed=0, spec=SPEC, **granted):
    params = INIT(jax.random.key(seed))
    update = SLOPE(params, secret)
    return observe(params, update, num_examples=1, spec=spec, **granted)


@functools.lru_cache
def run():
    attack = graph_dlg(
        MODEL, adjacency="known", num_steps=200, optimizer="adam", learning_rate=0.3
    )
    attack_fn = iterate(restarts(attack, 32, batch_size=32), num_records=1)
    return jax.jit(attack_fn, compiler_options=QUICK)


def same(a, b):
    """Whether nodes are equal; a path may be read from either end."""
    features = np.asarray(b.features)
    return any(np.array_equal(a.features, f) for f in (features, features[::-1]))


def relative_distance(observation, guess):
    params, update = observation.round(0)
    pairs = zip(
        jax.tree.leaves(SLOPE(params, guess)),
        jax.tree.leaves(update),
        strict=True,
    )
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in pairs]
    return sum(((a - b) ** 2).sum() for a, b in pairs) / sum(
        (b**2).sum() for _, b in pairs
    )


@pytest.mark.parametrize("seed", range(4))
def test_dlg_finds_the_features_of_a_planted_graph(seed):
    secret, other = planted(seed), planted(seed + 10)
    granted = {"adjacency": secret.adjacency}
    found = run()(jax.random.key(seed), seen(secret, seed, **granted))
    assert same(secret, found.batch) and not same(other, found.batch)
    assert found.score < 1e-9 and found.batch.labels == secret.labels
    np.testing.assert_array_equal(found.batch.adjacency, secret.adjacency)
    assert found.stats["scores"].shape == (32,)
    assert (found.stats["statuses"] == Status.OK).all()
    assert found.stats["distance"] < 0.05  # it was near before it was snapped


def test_dlg_does_not_believe_in_what_it_finds_for_no_graph():
    secret = planted(0)
    true = seen(secret, adjacency=secret.adjacency)
    other = seen(planted(1), seed=1, adjacency=secret.adjacency)
    # Another graph's gradient, at other weights.
    observation = true.replace(update=other.update)
    found = run()(KEY, observation)
    assert not same(secret, found.batch) and found.score > 0.05
    score = relative_distance(observation, found.batch)
    np.testing.assert_allclose(found.score, score, rtol=1e-4)


def test_tableak_scores_the_graph_that_it_returns():
    observation = seen(planted(2), num_nodes=3)
    attack = graph_tableak(MODEL, num_steps=40, num_members=3)
    found = jax.jit(iterate(attack, num_records=1), compiler_options=QUICK)(
        KEY, observation
    )
    assert found.status == Status.OK
    graph(*(np.asarray(part) for part in (*found.batch[:2], found.batch.labels)))
    score = relative_distance(observation, found.batch)
    np.testing.assert_allclose(found.score, score, rtol=1e-4)
    distance = relative_distance(observation, found.stats["relaxed"])
    np.testing.assert_allclose(found.stats["distance"], distance, rtol=1e-3)


def test_lost_members_say_so():
    granted = {"adjacency": PATH, "labels": [1]}
    options = {"num_steps": 6, "learning_rate": 3e38, "num_members": 2}
    attack = graph_tableak(MODEL, adjacency="known", **options)
    found = jax.jit(iterate(attack, num_records=1), compiler_options=QUICK)(
        KEY, seen(planted(0), **granted)
    )
    assert (found.stats["members"]["statuses"] == Status.DIVERGED).all()
    assert found.status == Status.DIVERGED and np.isinf(found.score)
    assert found.batch.labels == 1
    graph(*map(np.asarray, (*found.batch[:2], found.batch.labels)))


@functools.partial(jax.jit, static_argnames="spec")
def drawn(spec, observation):
    space = relaxed_graphs(spec, num_nodes=5)
    keys = jax.random.split(KEY, 4)
    return jax.vmap(lambda key: space.decode(*space.init(key, observation)))(keys)


def reordered(graphs, orders, task):
    graphs = jax.tree.map(np.asarray, graphs)
    rows = np.arange(len(orders))[:, None]
    edges = graphs.adjacency[rows[..., None], orders[:, :, None], orders[:, None]]
    labels = graphs.labels[rows, orders] if task == "node" else graphs.labels
    return Graph(graphs.features[rows, orders], edges, graphs.mask, labels)


@pytest.mark.parametrize("task", ["graph", "node"])
def test_median_does_not_know_the_order_of_nodes(task):
    spec = GraphSpec(GROUPS, 2, task)
    many, sound = drawn(spec, seen(planted(0))), np.arange(4) < 3
    orders = [np.random.default_rng(i).permutation(5) for i in range(3)]
    orders = np.stack([np.arange(5), *orders])

    @jax.jit
    def middle(graphs):
        return median(in_order_of_first(graphs, spec), sound)

    shuffled = reordered(many, orders, task)
    # What is lost does not count, whatever it holds.
    shuffled.features[3] = np.nan
    jax.tree.map(np.testing.assert_array_equal, middle(shuffled), middle(many))
    # Copies of one graph, each in an order of its own, are that graph.
    first = jax.tree.map(lambda leaf: np.asarray(leaf)[0], many)
    copies = jax.tree.map(lambda leaf: np.stack([leaf] * 4), first)
    copies = reordered(copies, orders, task)
    jax.tree.map(np.testing.assert_array_equal, middle(copies), first)


def test_relaxed_graphs_lie_between_graphs_and_snap_to_them():
    spec = GraphSpec(GROUPS, 3, "node")
    space = relaxed_graphs(spec)
    z, given = space.init(KEY, seen(planted(0), num_nodes=6))
    middle = space.decode(z, given)
    assert middle.features.shape == (6, 7) and middle.labels.shape == (6, 3)
    for part in middle[:2]:
        assert ((part >= 0) & (part < 1)).all()
    np.testing.assert_allclose(middle.features[:, :4].sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(middle.labels.sum(1), 1, rtol=1e-6)
    nearest = snapped(middle, spec)
    graph(*map(np.asarray, (*nearest[:2], nearest.labels)), spec)
    np.testing.assert_array_equal(nearest.features[:, 4:], z.features[:, 4:] > 0)
    upper = np.asarray(nearest.adjacency)[np.triu_indices(6, 1)]
    np.testing.assert_array_equal(upper, z.edges > 0)
    again = snapped(nearest, spec)
    jax.tree.map(np.testing.assert_array_equal, again, nearest)


def test_what_was_not_granted_is_refused():
    secret = planted(0)
    for options, granted, name in (
        ({}, {}, "num_nodes"),
        ({"adjacency": "known"}, {"num_nodes": 3}, "adjacency"),
    ):
        attack = graph_dlg(MODEL, **options)
        with pytest.raises(KnowledgeError, match=f"^{name} is needed and not granted"):
            jax.eval_shape(attack.init, KEY, seen(secret, **granted))
    # A guess at the number needs no grant.
    state = jax.eval_shape(graph_dlg(MODEL, num_nodes=5).init, KEY, seen(secret))
    assert state.z.features.shape == (5, 7) and state.z.labels.shape == (2,)
    attack = graph_dlg(MODEL, num_nodes=5, adjacency="known")
    with pytest.raises(InputError, match="num_nodes is 5; expected 3"):
        jax.eval_shape(attack.init, KEY, seen(secret, adjacency=PATH))


BAD_OPTIONS = {
    "adjacency is 'guessed'": {"adjacency": "guessed"},
    "optimizer is 'sgd'": {"optimizer": "sgd"},
    "learning_rate is 0": {"learning_rate": 0.0},
    "num_nodes is 0": {"num_nodes": 0},
    "num_steps is 0": {"num_steps": 0},
    "num_members is 0": {"num_members": 0},
}


@pytest.mark.parametrize("message", BAD_OPTIONS)
def test_bad_options_are_refused(message):
    with pytest.raises(InputError, match=f"^{message}"):
        graph_tableak(MODEL, **BAD_OPTIONS[message])


def test_knowledge_of_a_graph_is_checked():
    params = INIT(KEY)
    look = functools.partial(observe, params, params, num_examples=1)
    found = look(spec=SPEC, adjacency=PATH)
    assert found.known.granted() == ("num_nodes", "adjacency")
    assert found.known.num_nodes == 3
    nodes = GraphSpec(GROUPS, 2, "node")
    assert look(spec=nodes, labels=[0, 1, 1, 0]).known.num_nodes == 4
    bad = {
        "num_nodes is 2.5": {"num_nodes": 2.5},
        "numbers of nodes differ": {"num_nodes": 4, "adjacency": PATH},
        "adjacency has self loops": {"adjacency": np.eye(3)},
        "adjacency is not symmetric": {"adjacency": np.triu(PATH)},
        "adjacency holds": {"adjacency": PATH * np.nan},
        "adjacency has shape": {"adjacency": PATH[:2]},
        "adjacency is no array": {"adjacency": [[0], [1, 2]]},
        "num_examples is 2": {"num_examples": 2},
        "labels has shape": {"labels": [0, 1]},
    }
    for message, options in bad.items():
        with pytest.raises(InputError, match=f"^{message}"):
            look(**{"spec": SPEC, **options})
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, params)
    with pytest.raises(InputError, match=r"^update.* NaN or infinite"):
        observe(params, broken, num_examples=1, spec=SPEC)
