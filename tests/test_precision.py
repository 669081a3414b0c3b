"""Precisions: what they change, on any machine."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv import matching
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.errors import InputError
from jaxinv.objective import objective
from jaxinv.observation import observe
from jaxinv.precision import numerics, rounded
from jaxinv.release import gradient
from jaxinv.run import Runner
from jaxinv.space import pixels
from jaxinv.target import Batch, Spec

SPEC = Spec((4, 4, 1), 3)


@pytest.mark.parametrize(
    ("precision", "low", "high"),
    [
        ("bfloat16", 2**-9, 2**-5),
        ("tensorfloat32", 2**-13, 2**-9),
        ("float32", 0, 2**-20),
        (None, 0, 2**-20),
    ],
)
def test_products_are_rounded_as_asked_for(precision, low, high):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(8, 8)).astype(np.float32) for _ in range(2))
    with numerics(precision):
        closed = jax.make_jaxpr(jax.jit(lambda a, b: jnp.tanh(a) @ b))(a, b)
        [found] = jax.jit(rounded(precision, closed))(a, b)
    truth = np.tanh(a.astype(np.float64)) @ b
    error = np.abs(found - truth).max() / np.abs(truth).max()
    assert low <= error <= high


def loss(params, batch):
    hidden = jnp.tanh(batch.inputs.reshape(len(batch.inputs), -1) @ params["w"])
    return -jax.nn.log_softmax(hidden)[0, batch.labels[0]]


def score(precision):
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(16, 3)), jnp.float32)}
    batch = Batch(jnp.asarray(rng.uniform(size=(1, 4, 4, 1)), jnp.float32), [1])
    sent = gradient(loss)(None, params, batch)
    seen = observe(params, sent, num_examples=1, spec=SPEC, labels=[1])
    fn = objective(gradient(loss), matching.squared())
    attack = gradient_matching(fn, pixels(SPEC), optax.adam(0.05), 400)
    return Runner(attack, precision=precision)(jax.random.key(0), seen).found


def test_an_attack_gets_further_the_more_precise_it_is():
    found = {p: score(p) for p in ("bfloat16", "float32", "float64")}
    assert found["float64"].batch.inputs.dtype == np.float64
    assert found["float32"].batch.inputs.dtype == np.float32
    scores = [float(f.score) for f in found.values()]
    assert scores[0] > 10 * scores[1] and scores[1] < 1e-4 and scores[2] < 1e-4
    assert jax.dtypes.canonicalize_dtype(float) == np.float32  # left as it was


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match="precision is 'fp8'"):
        score("fp8")
