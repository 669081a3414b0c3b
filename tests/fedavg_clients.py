"""Clients that train locally, and what their deltas are compared by."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv import models
from jaxinv.client import simulate
from jaxinv.fedavg import fedavg
from jaxinv.target import Batch, Spec

# Large enough for LeNet: on smaller maps some weights meet padding alone, and where a
# gradient is 0 PyTorch's Adam has no second derivative.
SPEC = Spec((16, 16, 3), 5)
KEY = jax.random.key(0)
# The time of these tests is XLA's compilation.
QUICK = {"xla_backend_optimization_level": 0}


def quick(f):
    return jax.jit(f, compiler_options=QUICK)


def numbers(num, seed=0, spec=SPEC):
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(num, *spec.shape)).astype(np.float32)
    return Batch(jnp.asarray(x), jnp.asarray(rng.integers(0, spec.num_classes, num)))


def close(found, expected, tolerance=1e-6):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


def distance(found, expected):
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    pairs = [(np.float64(a), np.float64(b)) for a, b in pairs]
    size = sum((b**2).sum() for _, b in pairs)
    return np.sqrt(sum(((a - b) ** 2).sum() for a, b in pairs) / size)


def quadratic(params, batch):
    """A loss that is cheap to compile, and whose training is not linear."""
    return jnp.mean(jnp.tanh(batch.inputs @ params["w"] + params["b"]) ** 2)


FLAT = Spec((3,), 2)
WEIGHTS = {
    "w": jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32),
    "b": jnp.asarray([0.1, -0.2, 0.3, 0.0]),
}


def by_hand(params, batch, order, learning_rate):
    """Plain SGD, a loop over the steps."""
    weights = params
    for row in order:
        mini = Batch(batch.inputs[np.asarray(row)], None)
        grads = jax.grad(quadratic)(weights, mini)
        weights = jax.tree.map(lambda w, g: w - learning_rate * g, weights, grads)
    return jax.tree.map(jnp.subtract, weights, params)


def mlp_observation(num=3, grant=("labels", "local_training"), **options):
    target = models.build("mlp", SPEC, widths=(16,))
    params = target.init(KEY)
    release = fedavg(target.loss, 1e-3, **options)
    batch = numbers(num)
    return target, simulate(KEY, target, params, batch, release=release, grant=grant)
