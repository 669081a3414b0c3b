"""Local training: its steps, the order of its examples, its memory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fedavg_clients import (
    FLAT,
    KEY,
    SPEC,
    WEIGHTS,
    by_hand,
    close,
    numbers,
    quadratic,
    quick,
)

from jaxinv import matching, models
from jaxinv.fedavg import FedAvg, aggregated, fedavg
from jaxinv.local_training import LocalTraining
from jaxinv.release import gradient, trained
from jaxinv.target import Batch, Variables


@pytest.fixture(scope="module")
def lenet():
    target = models.build("lenet", SPEC)
    return target, jax.jit(target.init)(KEY)


def test_one_step_of_sgd_is_the_gradient_times_the_step_size(lenet):
    target, params = lenet
    batch = numbers(3)
    delta = quick(fedavg(target.loss, 0.25))(KEY, params, batch)
    grads = quick(gradient(target.loss))(KEY, params, batch)
    close(delta, jax.tree.map(lambda g: -0.25 * g, grads), 1e-5)


ORDERS = {
    "one epoch": ({"batch_size": 2}, [[0, 1], [2, 3]]),
    "epoch after epoch": ({"batch_size": 2, "epochs": 2}, [[0, 1], [2, 3]] * 2),
    "full batch": ({"local_steps": 3}, [[0, 1, 2, 3]] * 3),
    "cycled": ({"local_steps": 3, "batch_size": 2}, [[0, 1], [2, 3], [0, 1]]),
    "declared": ({"order": [[3, 1], [0, 0], [2, 1]]}, [[3, 1], [0, 0], [2, 1]]),
    # Past what is kept flat: whole segments, and a prime with a rest.
    "segments": ({"local_steps": 12, "batch_size": 1}, [[i % 4] for i in range(12)]),
    "a rest": ({"local_steps": 23, "batch_size": 1}, [[i % 4] for i in range(23)]),
}


@pytest.mark.parametrize("case", ORDERS)
def test_examples_meet_in_the_order_asked_for(case):
    options, order = ORDERS[case]
    batch = Batch(numbers(4, spec=FLAT).inputs, None)
    release = fedavg(quadratic, 0.3, **options)
    np.testing.assert_array_equal(release.local.indices(KEY, 4), order)
    close(release(KEY, WEIGHTS, batch), by_hand(WEIGHTS, batch, order, 0.3), 1e-5)

    def slope(f):
        return jax.grad(lambda x: jnp.sum(f(Batch(x, None))["w"] ** 2))(batch.inputs)

    mine = slope(lambda b: release(KEY, WEIGHTS, b))
    close(mine, slope(lambda b: by_hand(WEIGHTS, b, order, 0.3)), 1e-4)


def test_a_shuffled_order_is_a_new_permutation_each_epoch():
    local = LocalTraining(0.1, epochs=6, batch_size=2, order="shuffled")
    rows = np.asarray(local.indices(KEY, 8)).reshape(6, 8)
    np.testing.assert_array_equal(np.sort(rows, 1), np.tile(np.arange(8), (6, 1)))
    assert len(np.unique(rows, axis=0)) == 6
    again, other = (local.indices(jax.random.key(k), 8) for k in (0, 1))
    np.testing.assert_array_equal(again.reshape(6, 8), rows)
    assert (other.reshape(6, 8) != rows).any()
    assert not local.order_known and LocalTraining(0.1).order_known
    batch = Batch(numbers(8, spec=FLAT).inputs, None)
    found = FedAvg(quadratic, local)(KEY, WEIGHTS, batch)
    close(found, by_hand(WEIGHTS, batch, rows.reshape(24, 2), 0.1), 1e-5)


def test_a_transformation_is_taken_as_it_is():
    batch = Batch(numbers(4, spec=FLAT).inputs, None)
    own = optax.chain(optax.add_decayed_weights(0.5), optax.sgd(0.1))
    found = fedavg(quadratic, 7.0, optimizer=own)(KEY, WEIGHTS, batch)
    grads = jax.grad(quadratic)(WEIGHTS, batch)
    expected = jax.tree.map(lambda g, w: -0.1 * (g + 0.5 * w), grads, WEIGHTS)
    close(found, expected, 1e-5)


def test_state_is_sent_and_not_trained():
    def loss(variables, batch):
        return variables.state * quadratic(variables.params, batch)

    batch = Batch(numbers(4, spec=FLAT).inputs, None)
    sent = Variables(WEIGHTS, jnp.asarray(0.5))
    found = fedavg(loss, 0.3, local_steps=2)(KEY, sent, batch)
    assert jax.tree.structure(found) == jax.tree.structure(trained(sent))
    close(found, by_hand(WEIGHTS, batch, [[0, 1, 2, 3]] * 2, 0.15), 1e-5)


def test_vmap_over_batches_is_one_after_the_other(lenet):
    target, params = lenet
    release = fedavg(target.loss, 0.1, local_steps=2, batch_size=1)
    batches = [numbers(2, seed) for seed in range(2)]
    together = jax.tree.map(lambda *x: jnp.stack(x), *batches)
    found = quick(jax.vmap(release, (None, None, 0)))(KEY, params, together)
    alone = quick(release)
    for i, batch in enumerate(batches):
        one = jax.tree.map(lambda x, i=i: x[i], found)
        close(one, alone(KEY, params, batch), 1e-4)


def test_aggregated_is_the_mean_of_the_clients():
    batch = Batch(numbers(6, spec=FLAT).inputs, None)
    release = aggregated(fedavg(quadratic, 0.3, batch_size=1), 3)
    parts = [Batch(batch.inputs[i : i + 2], None) for i in (0, 2, 4)]
    each = [by_hand(WEIGHTS, part, [[0], [1]], 0.3) for part in parts]
    mean = jax.tree.map(lambda *x: sum(x) / 3, *each)
    close(release(KEY, WEIGHTS, batch), mean, 1e-5)
    assert release.local is not None
    assert release.local.clients == 3 and release.local.shape(6) == (2, 1)
    assert aggregated(gradient(quadratic), 3).local is None
    grads = aggregated(gradient(quadratic), 3)(KEY, WEIGHTS, batch)
    close(grads, jax.grad(quadratic)(WEIGHTS, batch), 1e-5)


def test_memory_grows_like_the_root_of_the_steps():
    width = 128
    weights = {"a": jnp.ones((width, width)), "b": jnp.ones((width, width))}

    def loss(params, batch):
        return jnp.mean((jnp.tanh(batch.inputs @ params["a"]) @ params["b"]) ** 2)

    def bytes_of(steps):
        release = fedavg(loss, 0.1, local_steps=steps)

        def total(x, params, observed):
            return matching.squared()(release(KEY, params, Batch(x, None)), observed)

        lowered = jax.jit(jax.grad(total)).lower(jnp.ones((1, width)), weights, weights)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    copy = sum(x.nbytes for x in jax.tree.leaves(weights))
    few, many = bytes_of(5), bytes_of(50)
    assert many < 4 * few
    # Kept flat, fifty copies and more; segments of seven or so keep about fifteen.
    assert many < 30 * copy
