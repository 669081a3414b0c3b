"""Several epochs in an unknown order: the merge, the refusals, a planted client."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv import metrics
from jaxinv.attacks.base import iterate
from jaxinv.attacks.fedavg_epochs import fedavg_epochs, merged_epochs
from jaxinv.client import simulate
from jaxinv.errors import InputError, KnowledgeError
from jaxinv.fedavg import FedAvg, aggregated
from jaxinv.local_training import LocalTraining
from jaxinv.target import Batch, Spec, cross_entropy, from_function

SPEC = Spec((4, 4, 1), 4)
KEY = jax.random.key(0)
LOCAL = LocalTraining(0.5, epochs=3, batch_size=2, order="shuffled")


def loss(params, batch):
    hidden = jnp.tanh(batch.inputs.reshape(len(batch.inputs), -1) @ params["a"])
    return cross_entropy(hidden @ params["b"] + params["c"], batch.labels)


def init(key):
    a, b, c = jax.random.split(key, 3)
    return {
        "a": 0.3 * jax.random.normal(a, (16, 48)),
        "b": 0.3 * jax.random.normal(b, (48, 4)),
        "c": 0.1 * jax.random.normal(c, (4,)),
    }


TARGET = from_function(loss, SPEC, init=init)


def client(seed=0, *, local=LOCAL, grant=("labels", "local_training"), num=4):
    inputs = np.random.default_rng(seed).uniform(size=(num, *SPEC.shape))
    batch = Batch(jnp.asarray(inputs, jnp.float32), jnp.arange(num) % 4)
    release = FedAvg(loss, local)
    params = init(jax.random.key(1))
    key = jax.random.key(seed)
    seen = simulate(key, TARGET, params, batch, release=release, grant=grant)
    return seen, batch


def test_examples_are_matched_by_label_and_distance_then_averaged():
    rng = np.random.default_rng(0)
    truth, labels = rng.normal(size=(4, 2, 2, 1)), np.array([1, 0, 1, 1])
    noise = 0.1 * rng.normal(size=(3, *truth.shape))
    orders = [rng.permutation(4) for _ in range(3)]
    epochs = [(truth + n)[order] for n, order in zip(noise, orders, strict=True)]
    batch = Batch(
        jnp.asarray(np.concatenate(epochs)),
        jnp.asarray(np.concatenate([labels[order] for order in orders])),
    )
    merged = jax.jit(merged_epochs, static_argnums=1)(batch, 3)
    expected = truth + noise.mean(0)
    np.testing.assert_allclose(merged.inputs, expected[orders[0]], atol=1e-6)
    np.testing.assert_array_equal(merged.labels, labels[orders[0]])


def test_the_match_is_the_best_of_all_orders():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 5, 2, 2, 1))
    batch = Batch(jnp.asarray(x.reshape(10, 2, 2, 1)), jnp.zeros(10, jnp.int32))
    merged = merged_epochs(batch, 2).inputs
    costs = {
        order: ((x[0] - x[1][list(order)]) ** 2).sum()
        for order in itertools.permutations(range(5))
    }
    best = min(costs, key=costs.__getitem__)
    np.testing.assert_allclose(merged, (x[0] + x[1][list(best)]) / 2, atol=1e-6)


def test_a_label_is_never_mixed_with_another():
    """Even where the other label's example is the nearer one."""
    inputs = jnp.asarray([0.0, 1.0, 0.0, 1.0]).reshape(4, 1, 1, 1)
    merged = merged_epochs(Batch(inputs, jnp.asarray([0, 1, 1, 0])), 2)
    np.testing.assert_allclose(merged.inputs.ravel(), [0.5, 0.5])


def test_a_start_of_nan_is_merged_without_end():
    inputs = jnp.full((4, 2, 2, 1), jnp.nan)
    merged = jax.jit(merged_epochs, static_argnums=1)(
        Batch(inputs, jnp.zeros(4, jnp.int32)), 2
    )
    assert np.isnan(merged.inputs).all()


# One start in four finds which example was first in each of the three epochs, and of
# 32 starts the score knows the one.
PAIR, STARTS = replace(LOCAL, batch_size=1), 32


@pytest.fixture(scope="module")
def run():
    attack = fedavg_epochs(TARGET, PAIR, num_examples=2, num_steps=500, tv=0.0)
    return jax.jit(jax.vmap(iterate(attack), (0, None)))


def error(found, truth):
    """Mean squared error of the start with the best score, and its labels."""
    best = jax.tree.map(lambda x: x[jnp.argmin(found.score)], found)
    order = metrics.align(truth.inputs, best.batch.inputs)
    guess = jax.tree.map(lambda x: x[order], best.batch)
    return float(jnp.mean((guess.inputs - truth.inputs) ** 2)), guess.labels


def test_it_finds_the_client_though_nobody_told_the_order(run):
    seen, truth = client(local=PAIR, num=2)
    keys = jax.random.split(KEY, STARTS)
    found = run(keys, seen)
    assert found.batch.inputs.shape == (STARTS, 2, *SPEC.shape)
    assert found.stats["epochs"].inputs.shape == (STARTS, 6, *SPEC.shape)
    assert found.batch.inputs.min() >= 0 and found.batch.inputs.max() <= 1
    mine, labels = error(found, truth)
    np.testing.assert_array_equal(labels, truth.labels)
    other, _ = error(run(keys, client(1, local=PAIR, num=2)[0]), truth)
    # A uniform guess of noise is off by about 1/6, a grey one by 1/12.
    assert mine < 0.02 < 0.06 < other


REFUSED = {
    "another training": (
        lambda: client(local=replace(LOCAL, learning_rate=0.1))[0],
        InputError,
        "local is LocalTraining",
    ),
    "another number": (
        lambda: client(num=2, local=replace(LOCAL, epochs=3))[0],
        InputError,
        "num_examples is 4; the observation has 2",
    ),
    "nothing told": (
        lambda: client(grant=("labels",))[0],
        KnowledgeError,
        "local_training is needed and not granted",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_observation_of_another_kind_is_refused(case):
    make, kind, message = REFUSED[case]
    attack = fedavg_epochs(TARGET, LOCAL, num_examples=4)
    with pytest.raises(kind, match=message):
        jax.eval_shape(attack.init, KEY, make())


def test_it_is_refused_what_it_cannot_do():
    cut = LocalTraining(0.1, local_steps=3, batch_size=2)
    with pytest.raises(InputError, match="local_training has 3 steps of 2 examples;"):
        fedavg_epochs(TARGET, cut, num_examples=4)
    several = aggregated(FedAvg(loss, LOCAL), 2).local
    with pytest.raises(InputError, match="clients is 2; expected 1"):
        fedavg_epochs(TARGET, several, num_examples=4)


def test_any_declared_order_will_do():
    """What the client is known to have done in order is no hindrance."""
    known = replace(LOCAL, order=None)
    seen, _ = client(local=known)
    attack = fedavg_epochs(TARGET, LOCAL, num_examples=4)
    state = jax.eval_shape(attack.init, KEY, seen)
    assert state.z.inputs.shape == (12, *SPEC.shape)
