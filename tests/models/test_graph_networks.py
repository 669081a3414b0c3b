"""Graph networks equal PyTorch's, and keep what attacks are told about them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.attacks.grain.multiplicities import graph_label
from jaxinv.errors import InputError
from jaxinv.graph import FeatureGroup, GraphSpec, graph, padded
from jaxinv.models.graph_networks import build_graph_model

CLASSES, WIDTH = 3, 12
# The time of these tests is XLA's compilation.
QUICK = {"xla_backend_optimization_level": 0}
GROUPS = (FeatureGroup("kind", 4), FeatureGroup("words", 5, False))
SIZE = sum(group.size for group in GROUPS)
# A triangle with a tail, of nodes that all differ, and a node without neighbours.
EDGES, NODES = ((0, 1), (1, 2), (0, 2), (2, 3)), 5

GCN = ("gcn", {"readout": (10, 7)})
GAT = ("gat", {"readout": (10, 7)})
MODELS = {
    "gcn": GCN,
    "gcn gelu": ("gcn", {**GCN[1], "activation": "gelu"}),
    "gcn deep": ("gcn", {**GCN[1], "depth": 3}),
    "gcn alone": ("gcn", {"readout": (), "concat": False, "depth": 1}),
    "gat": GAT,
    "gat deep": ("gat", {"readout": (8,), "depth": 3, "heads": 3}),
    "gat one head": ("gat", {**GAT[1], "heads": 1}),
}


def built(case, task="graph", **changes):
    name, options = MODELS[case]
    rng = np.random.default_rng(1)
    # The first column never varies in the public data.
    std = (0.0, *rng.uniform(0.3, 1.5, SIZE - 1))
    spec = GraphSpec(GROUPS, CLASSES, task, mean=tuple(rng.random(SIZE)), std=std)
    return build_graph_model(name, spec, **{"width": WIDTH, **options, **changes})


def weights_for(model, seed=0, dtype=np.float64):
    """All non-zero, biases too."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(
        lambda leaf: (rng.standard_normal(leaf.shape) / leaf.shape[0] ** 0.5).astype(
            dtype
        ),
        shapes,
    )


def drawn_graph(spec, seed=1):
    rng = np.random.default_rng(seed)
    features = np.zeros((NODES, SIZE))
    features[np.arange(NODES), rng.integers(0, 4, NODES)] = 1
    features[:, 4:] = rng.integers(0, 2, (NODES, 5))
    adjacency = np.zeros((NODES, NODES))
    for i, j in EDGES:
        adjacency[i, j] = adjacency[j, i] = 1
    labels = rng.integers(0, CLASSES, () if spec.task == "graph" else NODES)
    return graph(features, adjacency, labels, spec)


def torch_gcn(torch, params, x, adjacency, options):
    act = getattr(torch.nn.functional, options.get("activation", "relu"))
    loops = adjacency + torch.eye(len(adjacency), dtype=x.dtype)
    root = torch.diag(loops.sum(1) ** -0.5)
    h = x
    for i, layer in enumerate(params["layers"], 1):
        h = root @ loops @ root @ (h @ layer["kernel"])
        h = act(h) if i < len(params["layers"]) else h
    h = torch.cat([x, h], 1) if options.get("concat", True) else h
    return torch_readout(params, h, act)


def torch_gat(torch, params, x, adjacency, options):
    """Layers as pytorch-GAT of Gordić has them, with the adjacency as a mask."""
    heads, num = options.get("heads", 2), len(x)
    loops = adjacency + torch.eye(num, dtype=x.dtype)
    closed = torch.zeros_like(loops).masked_fill(loops == 0, -torch.inf)
    for i, layer in enumerate(params["layers"], 1):
        proj = (x @ layer["kernel"]).view(num, heads, -1).transpose(0, 1)
        source = torch.bmm(proj, layer["source"][:, :, None])
        target = torch.bmm(proj, layer["target"][:, :, None])
        scores = torch.nn.functional.leaky_relu(source + target.transpose(1, 2), 0.2)
        out = torch.bmm(torch.softmax(scores + closed, -1), proj).transpose(0, 1)
        out = out + (x @ layer["skip"]).view(num, heads, -1)
        if i < len(params["layers"]):
            x = torch.nn.functional.elu(out.reshape(num, -1) + layer["bias"])
        else:
            x = out.mean(1) + layer["bias"]
    return torch_readout(params, x, torch.relu)


def torch_readout(params, h, act):
    *hidden, last = params["readout"]
    for layer in hidden:
        h = act(h @ layer["kernel"] + layer["bias"])
    return h @ last["kernel"] + last["bias"]


def in_torch(case, model, params, secret):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.set_num_threads(1)
    name, options = MODELS[case]
    weights = jax.tree.map(lambda p: torch.tensor(p, requires_grad=True), params)
    dtype = jax.tree.leaves(weights)[0].dtype
    mean, std = np.array(model.spec.mean), np.array(model.spec.std)
    x = np.where(std > 0, (secret.features - mean) / np.where(std > 0, std, 1), 0)
    x, adjacency = (torch.tensor(a, dtype=dtype) for a in (x, secret.adjacency))
    net = {"gcn": torch_gcn, "gat": torch_gat}[name]
    logits = net(torch, weights, x, adjacency, options)
    labels = torch.nn.functional.one_hot(
        torch.tensor(secret.labels, dtype=torch.long), CLASSES
    ).to(dtype)
    logits = logits.mean(0) if model.spec.task == "graph" else logits
    loss = torch.nn.BCEWithLogitsLoss()(logits, labels)
    loss.backward()
    return loss.item(), jax.tree.map(lambda w: w.grad.numpy(), weights)


def close(found, truth, tolerance):
    """Each leaf by its own norm."""
    found, truth = (np.asarray(x, np.float64) for x in (found, truth))
    assert found.shape == truth.shape
    # Scores within a row may be shifted at will: such a slope is 0 but for rounding.
    size = np.linalg.norm(truth)
    assert np.linalg.norm(found - truth) <= tolerance * max(size, 0.01), size


TASKS = [(case, "graph") for case in MODELS] + [("gcn", "node"), ("gat", "node")]


@pytest.mark.parametrize("case, task", TASKS)
def test_loss_and_gradient_equal_backward(case, task):
    model = built(case, task)
    secret = drawn_graph(model.spec)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        params = weights_for(model, dtype=dtype)
        value, slopes = in_torch(case, model, params, secret)
        with jax.enable_x64(dtype is np.float64):
            run = jax.jit(jax.value_and_grad(model.loss), compiler_options=QUICK)
            # Padding once is enough: both sizes must equal the one of PyTorch.
            sizes = (NODES, NODES + 2) if dtype is np.float64 else (NODES + 2,)
            for size in sizes:
                loss, grads = run(params, padded(secret, size))
                assert loss.dtype == dtype
                close(loss, value, tolerance)
                jax.tree.map(lambda a, b: close(a, b, tolerance), grads, slopes)


@pytest.mark.parametrize("case", ["gcn", "gcn deep", "gat", "gat deep"])
def test_layers_at_one_node_equal_layers_of_the_graph(case):
    model = built(case)
    secret, params = drawn_graph(model.spec), weights_for(model)
    degrees = secret.adjacency.sum(1)
    most = int(degrees.max()) + 1  # with a place that is never taken
    around = np.zeros((NODES, most), int)
    present = np.arange(most) < degrees[:, None]
    for i in range(NODES):
        around[i, : int(degrees[i])] = np.flatnonzero(secret.adjacency[i])
    columns = np.array([7, 0, 3])

    def at_every_node(level, inputs, some):
        given = model.prepare(params, level, inputs, jnp.asarray(degrees), some)
        others = jax.tree.map(lambda x: x[around], given)
        there = jnp.asarray(present, float)
        return model.combine(params, level, given, others, there, some)

    with jax.enable_x64(True):
        rows = jax.jit(model.levels, compiler_options=QUICK)(params, secret)
        assert len(rows) == model.depth + 1
        for level in range(1, model.depth + 1):
            for some in (None, columns):
                found = at_every_node(level, rows[level - 1], some)
                whole = np.asarray(rows[level])
                if some is not None:
                    whole = whole[:, model.coordinates(level, some)]
                np.testing.assert_allclose(found, whole, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("task", ["graph", "node"])
@pytest.mark.parametrize("case", ["gcn gelu", "gcn deep", "gat", "gat deep"])
def test_columns_of_factors_are_mixtures_of_a_levels_rows(case, task):
    # Wide enough that no ReLU takes of the gradient's rank.
    model = built(case, task, width=24, readout=(40, 30))
    secret, params = drawn_graph(model.spec), weights_for(model)
    with jax.enable_x64(True):
        update = jax.jit(jax.grad(model.loss), compiler_options=QUICK)(params, secret)
        rows = jax.jit(model.levels, compiler_options=QUICK)(
            params, padded(secret, NODES + 1)
        )
        fed = model.readout_inputs(rows[0], rows[-1])
        of_level = [np.asarray(h)[:NODES] for h in (*rows[:-1], fed)]
        for level, inputs in enumerate(of_level):
            factors = model.factors(update, level)
            for matrix, affine in factors:
                given = np.asarray(inputs, np.float64)
                if affine:
                    given = np.concatenate([given, np.ones((NODES, 1))], 1)
                assert len(matrix) == given.shape[1]
                assert outside(matrix, given.T) < 1e-12
            # The last factor of a level has every row of it.
            assert outside(given.T, matrix) < 1e-9
            if level == 0 and case.startswith("gcn"):
                # Two nodes of the triangle see the same: the first lacks a row.
                assert outside(inputs.T, factors[0].matrix) > 0.1


def outside(columns, span):
    """Largest part of a column, by the largest one, that is not in a column span."""
    columns, span = np.asarray(columns), np.asarray(span)
    left, values, _ = np.linalg.svd(span, full_matrices=False)
    left = left[:, values > 1e-10 * values[0]]
    rest = columns - left @ (left.T @ columns)
    return np.linalg.norm(rest, axis=0).max() / np.linalg.norm(columns, axis=0).max()


@pytest.mark.parametrize("case", ["gcn", "gat"])
def test_output_bias_names_the_label(case):
    model = built(case)
    secret, slope = drawn_graph(model.spec), jax.jit(jax.grad(model.loss))
    for seed in range(3):
        params = weights_for(model, seed, np.float32)
        for label in range(CLASSES):
            update = slope(params, secret._replace(labels=np.int32(label)))
            assert graph_label(update) == label


BAD = {
    "depth is 0": ("gcn", {"depth": 0}),
    "width is -1": ("gat", {"width": -1}),
    "heads is 0": ("gat", {"heads": 0}),
    r"readout\[1\] is 0": ("gcn", {"readout": (5, 0)}),
    r"readout\[0\] is 2.5": ("gat", {"readout": (2.5,)}),
    "activation is 'tanh'": ("gcn", {"activation": "tanh"}),
    "option concat of gcn is 1": ("gcn", {"concat": 1}),
    "option 'activation' is unknown": ("gat", {"activation": "relu"}),
    "model is 'gnc'": ("gnc", {}),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_options_are_refused(message):
    name, options = BAD[message]
    with pytest.raises(InputError, match=f"^{message}[^\n]*$"):
        build_graph_model(name, GraphSpec(GROUPS, CLASSES), **options)
