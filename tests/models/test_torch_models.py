"""Objective gradients equal PyTorch's double backward on the same numbers."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.models import build
from jaxinv.release import gradient, trained
from jaxinv.target import Batch, Spec

torch = pytest.importorskip("torch", reason="torch is not installed")
from bench.torch_models import build_twin, load_flax, to_flax  # noqa: E402
from bench.torch_peer import channels_first  # noqa: E402

torch.set_num_threads(1)

SMALL, CIFAR = (12, 9, 3), (32, 32, 3)
CONVNET = {"width": 4, "norm": "batch_inference"}
RESNET = {"width": 4, "norm": "batch_inference"}
TRAINING = {"norm": "batch_training"}
BOTH, DOUBLE = ("float32", "float64"), ("float64",)
CASES = [
    ("mlp", SMALL, {"widths": (16, 12)}, BOTH),
    ("lenet", CIFAR, {}, BOTH),
    ("cnn6", CIFAR, {}, DOUBLE),
    ("convnet", (20, 20, 3), CONVNET, BOTH),
    ("convnet", (20, 20, 3), CONVNET | TRAINING, BOTH),
    ("resnet18", (16, 16, 3), RESNET, BOTH),
    ("resnet18", (16, 16, 3), RESNET | TRAINING, BOTH),
    ("vit", (8, 8, 3), {"dim": 16, "depth": 1, "heads": 2}, DOUBLE),
]
# Forms beside those above: the values and first derivatives are enough for them.
FORWARD = [
    ("resnet18", CIFAR, {"width": 8, "norm": "group", "activation": "pre"}),
    ("resnet18", CIFAR, {"width": 4, "norm": "none", "stem": "imagenet"}),
    ("convnet", SMALL, {"width": 4, "norm": "group"}),
    ("convnet", SMALL, {"width": 4, "norm": "none"}),
    ("lenet", (28, 28, 1), {}),
    ("vit", (8, 8, 3), {"dim": 8, "depth": 1, "pool": "mean", "gelu": "tanh"}),
]
PRECISION = {"float32": 1e-4, "float64": 1e-8}
# The time of these tests is XLA's compilation: half of it for the deepest models.
QUICK = {"xla_backend_optimization_level": 0}


def named(case):
    if isinstance(case, str):
        return case
    name, shape, options, *_ = case
    return "-".join([name, str(shape[0]), *map(str, options.values())])


def numbers_for(target, seed, dtype):
    """Parameters of the right shapes, of the size that training leaves them."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        noise = rng.standard_normal(leaf.shape)
        if name == "kernel":
            return noise / np.sqrt(np.prod(leaf.shape[:-1]))
        if name in ("scale", "var"):
            return 1 + 0.5 * np.tanh(noise)
        return 0.1 * noise

    shapes = jax.eval_shape(target.init, jax.random.key(0))
    params = jax.tree_util.tree_map_with_path(draw, shapes)
    images = rng.standard_normal((2, 2, *target.spec.shape))
    labels = rng.integers(0, target.spec.num_classes, (2, 2))
    cast = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), (params, images))
    return *cast, labels


def relative_error(guess, truth):
    guess, truth = np.asarray(guess, np.float64), np.asarray(truth, np.float64)
    return np.linalg.norm(guess - truth) / np.linalg.norm(truth)


def in_jax(target, params, update, x, labels, options):
    release = gradient(target.loss)

    def objective(x, params, update, weights):
        guess = release(jax.random.key(0), params, Batch(x, labels))
        pairs = list(zip(jax.tree.leaves(guess), jax.tree.leaves(update), strict=True))
        dot = sum(jnp.vdot(a, b) for a, b in pairs)
        norms = [sum(jnp.vdot(p[i], p[i]) for p in pairs) for i in (0, 1)]
        cosine = 1 - dot / jnp.sqrt(norms[0] * norms[1])
        squared = sum(jnp.sum((a - b) ** 2) for a, b in pairs)
        return jnp.stack([cosine, squared]) @ weights

    run = jax.jit(jax.value_and_grad(objective), compiler_options=options)
    return [run(x, params, update, w) for w in np.eye(2, dtype=x.dtype)]


def in_torch(twin, images, labels):
    """The observed update, and value and gradient of both objectives."""
    weights = list(twin.parameters())
    y = torch.tensor(labels)

    def loss_gradient(x, which, **kwargs):
        loss = torch.nn.functional.cross_entropy(twin(x), y[which])
        return torch.autograd.grad(loss, weights, **kwargs)

    # Contiguous: on channels-last inputs the double backward of PyTorch 2.13 writes
    # past its buffers where the processor has AVX2 and no AVX-512.
    x = channels_first(images, "cpu")
    update = loss_gradient(x[0], 0)
    x = x[1].clone().requires_grad_()
    guess = loss_gradient(x, 1, create_graph=True)
    pairs = list(zip(guess, update, strict=True))
    dot = sum((a * b).sum() for a, b in pairs)
    norms = [sum((p[i] ** 2).sum() for p in pairs) for i in (0, 1)]
    cosine = 1 - dot / (norms[0] * norms[1]).sqrt()
    squared = sum(((a - b) ** 2).sum() for a, b in pairs)
    results = []
    for value in (cosine, squared):
        (slope,) = torch.autograd.grad(value, x, retain_graph=True)
        results.append((value.detach(), slope.permute(0, 2, 3, 1)))
    return update, results


def both(case, dtype, seed=0):
    name, shape, options, *_ = case
    wide = jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()
    with wide:
        spec = Spec(shape, 5)
        target = build(name, spec, **options)
        params, images, labels = numbers_for(target, seed, dtype)
        twin = build_twin(name, spec, **options).to(getattr(torch, dtype))
        load_flax(twin, params)
        return target, twin, params, images, labels


@pytest.mark.parametrize(
    "case, dtype", [(case, dtype) for case in CASES for dtype in case[-1]], ids=named
)
def test_objective_and_its_gradient_equal_double_backward(case, dtype):
    target, twin, params, images, labels = both(case, dtype)
    update, truth = in_torch(twin, images, labels)
    update = to_flax(twin, update, trained(params))
    with jax.enable_x64(dtype == "float64"):
        options = QUICK if case[0] == "resnet18" else None
        found = in_jax(target, params, update, images[1], labels[1], options)
    for (value, grad), (torch_value, torch_grad) in zip(found, truth, strict=True):
        assert grad.dtype == dtype
        assert relative_error(value, torch_value) < PRECISION[dtype]
        assert relative_error(grad, torch_grad) < PRECISION[dtype]


@pytest.mark.parametrize("case", FORWARD, ids=named)
def test_loss_gradient_equals_backward(case):
    target, twin, params, images, labels = both(case, "float64")

    def loss(inputs):
        return target.loss(params, Batch(inputs, labels[0]))

    with jax.enable_x64(True):
        run = jax.jit(jax.value_and_grad(loss), compiler_options=QUICK)
        value, grad = run(images[0])
    x = channels_first(images[0], "cpu").requires_grad_()
    truth = torch.nn.functional.cross_entropy(twin(x), torch.tensor(labels[0]))
    truth.backward()
    assert relative_error(value, truth.detach()) < 1e-8
    assert relative_error(grad, x.grad.permute(0, 2, 3, 1)) < 1e-8


def test_load_flax_refuses_what_does_not_fit():
    spec = Spec(SMALL, 5)
    params = build("mlp", spec, widths=(8,)).init(jax.random.key(0))
    twin = build_twin("mlp", spec, widths=(8, 8))
    with pytest.raises(KeyError, match="linear2"):
        load_flax(twin, trained(params))
