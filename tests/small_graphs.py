"""Small graphs, networks that leak them, and what holds of every answer to that."""

import functools
import itertools
from collections import Counter

import jax
import numpy as np
from hypothesis import strategies as st

from jaxinv.attacks.grain import Certificate, Limits, grain
from jaxinv.attacks.grain.types import Types
from jaxinv.graph import ANY, FeatureGroup, Graph, GraphSpec, graph, padded
from jaxinv.isomorphism import isomorphic
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


UNIQUE, AMBIGUOUS = Certificate.UNIQUE, Certificate.AMBIGUOUS


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


def sent(secret, of, key=None):
    """What a client with these weights returns; the server's weights, or others."""
    model, params, slope = of
    weights = params if key is None else model.init(jax.random.key(key))
    size = 8 if len(secret.mask) <= 8 else 16
    return jax.tree.map(np.asarray, slope(weights, padded(secret, size)))


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


def table(rows, degrees=None):
    """Types from `(own, others)`."""
    width = max(len(others) for _, others in rows)
    others = [[*sorted(near), *[-1] * (width - len(near))] for _, near in rows]
    counts = np.array([len(near) for _, near in rows])
    own = np.array([mine for mine, _ in rows])
    return Types(
        own, np.array(others, int).reshape(len(rows), -1), counts, counts[:, None]
    )


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
