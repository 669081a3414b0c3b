"""Local training and its slope are PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fedavg_clients import (
    KEY,
    SPEC,
    distance,
    numbers,
    quick,
)

from jaxinv import matching, models
from jaxinv.adam import adam
from jaxinv.fedavg import fedavg
from jaxinv.release import gradient
from jaxinv.target import Batch

OPTIMIZERS = {
    "sgd": ("SGD", {}, 0.1),
    "momentum": ("SGD", {"momentum": 0.9}, 0.1),
    "adam": ("Adam", {}, 1e-2),
}
ORDER = [[0, 1], [2, 3], [0, 1], [2, 3], [0, 1]]


@pytest.fixture(scope="module")
def lenet():
    target = models.build("lenet", SPEC)
    return target, jax.jit(target.init)(KEY)


@pytest.fixture(scope="module")
def twin(lenet):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from bench.torch_models import build_twin, load_flax

    torch.set_num_threads(1)
    return load_flax(build_twin("lenet", SPEC).double(), lenet[1])


def torch_delta(twin, batch, kind, options, learning_rate):
    """Local training by PyTorch's own optimiser, in float64."""
    import copy

    import torch

    from bench.torch_peer import channels_first

    twin = copy.deepcopy(twin)
    before = [p.detach().clone() for p in twin.parameters()]
    x = channels_first(np.float64(batch.inputs), "cpu")
    y = torch.tensor(np.asarray(batch.labels)).long()
    make = getattr(torch.optim, kind)
    optimizer = make(twin.parameters(), lr=learning_rate, **options)
    for row in ORDER:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(twin(x[row]), y[row]).backward()
        optimizer.step()
    pairs = zip(twin.parameters(), before, strict=True)
    return [after.detach() - old for after, old in pairs]


def torch_slope(twin, batch, observed, name, learning_rate):
    """The squared match and its gradient by the inputs, through all of training."""
    import torch

    from bench.torch_peer import channels_first

    start = dict(twin.named_parameters())
    weights = dict(start)
    x = channels_first(np.float64(batch.inputs), "cpu").requires_grad_()
    y = torch.tensor(np.asarray(batch.labels)).long()
    first = {k: torch.zeros_like(v) for k, v in weights.items()}
    second = {k: torch.zeros_like(v) for k, v in weights.items()}
    for t, row in enumerate(ORDER, 1):
        out = torch.func.functional_call(twin, weights, (x[row],))
        loss = torch.nn.functional.cross_entropy(out, y[row])
        found = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        grads = dict(zip(weights, found, strict=True))
        for k, g in grads.items():
            if name == "momentum":
                first[k] = 0.9 * first[k] + g
                g = first[k]
            if name == "adam":
                first[k] = 0.9 * first[k] + 0.1 * g
                second[k] = 0.999 * second[k] + 0.001 * g**2
                root = (second[k] / (1 - 0.999**t)).sqrt() + 1e-8
                g = first[k] / (1 - 0.9**t) / root
            weights[k] = weights[k] - learning_rate * g
    pairs = zip(weights, observed, strict=True)
    match = sum(((weights[k] - start[k] - u) ** 2).sum() for k, u in pairs)
    (slope,) = torch.autograd.grad(match, x)
    return match.item(), slope.movedim(1, -1).numpy()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_is_pytorchs_local_training_and_so_is_its_slope(name, lenet, twin):
    from bench.torch_models import to_flax

    target, params = lenet
    kind, options, rate = OPTIMIZERS[name]
    truth, guess = numbers(4, 1), numbers(4, 2)._replace(labels=numbers(4, 1).labels)
    sent = torch_delta(twin, truth, kind, options, rate)
    expected = to_flax(twin, sent, params)
    release = fedavg(target.loss, rate, local_steps=5, batch_size=2, optimizer=name)
    found = quick(release)(KEY, params, truth)
    assert distance(found, expected) < 2e-6

    match, slope = torch_slope(twin, guess, sent, name, rate)

    def total(inputs, params):
        mine = release(KEY, params, guess._replace(inputs=inputs))
        return matching.squared()(mine, expected)

    # Adam's in float32 is the next test's.
    with jax.enable_x64(name == "adam"):
        dtype = np.float64 if name == "adam" else np.float32
        args = jax.tree.map(lambda x: np.asarray(x, dtype), (guess.inputs, params))
        value, mine = quick(jax.value_and_grad(total))(*args)
    np.testing.assert_allclose(value, match, rtol=1e-4)
    assert distance(mine, slope) < (1e-8 if name == "adam" else 1e-4)


def test_adams_slope_in_float32_is_exact_but_where_a_gradient_has_no_digits(lenet):
    """Adam's slope by a gradient g is about 1 / |g|, and g is as good as float32.

    Two of 9,101 weights have a first gradient below 1e-5 of the largest; they are most
    of the slope, and 11 % of it is their rounding (in PyTorch's float32 3 %: each is
    one draw). In float64 throughout, rounding the inputs to float32 changes it as
    much. Without those weights the slope is exact to 2e-5.
    """
    target, params = lenet
    truth, guess = numbers(4, 1), numbers(4, 2)._replace(labels=numbers(4, 1).labels)
    first = jax.tree.map(lambda x: x[:2], guess)
    size = jax.tree.map(jnp.abs, quick(gradient(target.loss))(KEY, params, first))
    least = 1e-5 * max(x.max() for x in jax.tree.leaves(size))
    faint = jax.tree.map(lambda x: x < least, size)
    assert 1 <= sum(int(x.sum()) for x in jax.tree.leaves(faint)) <= 5
    nobody = jax.tree.map(jnp.zeros_like, faint)

    def total(inputs, params, sent, held):
        def update(grads, state, weights=None):
            still = jax.lax.stop_gradient
            pairs = jax.tree.map(lambda g, h: jnp.where(h, still(g), g), grads, held)
            return own.update(pairs, state, weights)

        own = adam(1e-2)
        holding = optax.GradientTransformation(own.init, update)
        options = {"local_steps": 5, "batch_size": 2, "optimizer": holding}
        mine = fedavg(target.loss, 1e-2, **options)(
            KEY, params, guess._replace(inputs=inputs)
        )
        return matching.squared()(mine, sent)

    release = fedavg(target.loss, 1e-2, local_steps=5, batch_size=2, optimizer="adam")
    args = guess.inputs, params, quick(release)(KEY, params, truth)
    slope = quick(jax.grad(total))
    mine, mine_all = slope(*args, faint), slope(*args, nobody)
    with jax.enable_x64(True):
        args = jax.tree.map(np.float64, args)
        exact, exact_all = slope(*args, faint), slope(*args, nobody)
        rounding = np.random.default_rng(0).uniform(-1, 1, args[0].shape) / 2**24
        moved = slope(args[0] * (1 + rounding), *args[1:], nobody)
    assert exact.dtype == np.float64
    assert distance(mine, exact) < 1e-4
    assert distance(mine_all, exact_all) > 1e-3
    assert distance(moved, exact_all) > 1e-3


def test_adam_is_differentiable_where_a_gradient_is_exactly_zero():
    def loss(params, batch):
        # The second unit is dead whatever the input.
        hidden = jax.nn.relu(batch.inputs @ params["w"] + jnp.asarray([5.0, -50.0]))
        return jnp.mean(hidden**2)

    params = {"w": jnp.ones((3, 2))}
    batch = Batch(jnp.asarray([[0.1, 0.2, 0.3], [0.5, 0.1, 0.0]]), None)
    release = fedavg(loss, 1e-2, local_steps=3, optimizer="adam")
    delta = release(KEY, params, batch)["w"]
    assert not delta[:, 1].any() and delta[:, 0].all()

    def total(x):
        # Squares would send a direction of 0 back where the delta is 0.
        return jnp.sum(jnp.sin(release(KEY, params, Batch(x, None))["w"]))

    slope = jax.grad(total)(batch.inputs)
    assert np.isfinite(slope).all() and np.abs(slope).max() > 0
