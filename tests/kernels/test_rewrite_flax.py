"""Models of Flax are rewritten, linen and nnx."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import lax
from slow_functions import batch_of, check, cross_entropy, draw


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


class Zoo(nn.Module):
    """Every kind of convolution that a user of Flax writes."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), strides=2)(x))
        x = nn.BatchNorm(use_running_average=False)(x)
        x = nn.Conv(4, (3, 3), kernel_dilation=2, feature_group_count=2)(x)
        x = nn.Conv(4, (3, 3), feature_group_count=4, padding="CIRCULAR")(x)
        x = nn.max_pool(nn.silu(x), (2, 2), (2, 2), "SAME")
        x = nn.ConvTranspose(3, (3, 3), strides=(2, 2))(x)
        x = nn.avg_pool(x, (3, 3), (2, 2), "SAME", count_include_pad=False)
        x = nn.Conv(2, (1, 1))(x)
        return nn.Dense(2)(x.reshape(len(x), -1))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        return x + nn.tanh(nn.Conv(2, (3, 3))(x)), None


class Deep(nn.Module):
    @nn.compact
    def __call__(self, x):
        x, _ = nn.remat(Block)()(x)
        layers = nn.scan(
            nn.remat(Block),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=2,
        )
        x, _ = layers()(x, None)
        return x.mean((1, 2))


@pytest.mark.parametrize("module", [Zoo, Deep])
def test_linen(module):
    model, batch = module(), batch_of(size=8)
    variables = model.init(jax.random.key(0), batch[0])
    rest = {k: v for k, v in variables.items() if k != "params"}
    params = jax.tree.map(lambda p: p.astype(float), variables["params"])

    def loss(params, batch):
        x, y = batch
        variables = {"params": params, **rest}
        logits, _ = model.apply(variables, x, mutable=["batch_stats"])
        return cross_entropy(logits, y)

    check(loss, params, batch)


def test_nnx():
    class CNN(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Conv(2, 3, (3, 3), rngs=rngs)
            self.second = nnx.Conv(3, 2, (3, 3), strides=2, rngs=rngs)

        def __call__(self, x):
            x = nnx.max_pool(nnx.relu(self.first(x)), (2, 2), (1, 1))
            return nnx.avg_pool(self.second(x), (2, 2)).reshape(len(x), -1)

    graph, params = nnx.split(CNN(nnx.Rngs(0)))
    params = jax.tree.map(lambda p: p.astype(float), params)

    def loss(params, batch):
        x, y = batch
        return cross_entropy(nnx.merge(graph, params)(x), y)

    check(loss, params, batch_of())


def test_channels_first():
    def loss(params, batch):
        x = jnp.sin(lax.conv(batch[0], params, (2, 2), "SAME"))
        x = lax.conv_general_dilated(x, params, (1, 1), [(1, 1)] * 2, (2, 1))
        return jnp.sum(x**2)

    check(loss, draw(0, 2, 2, 3, 3), (draw(1, 2, 2, 6, 6),))
