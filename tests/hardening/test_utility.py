"""What noise costs: prices, the loss after training, and the scale of a given harm."""

import jax
import jax.numpy as jnp
import pytest

from jaxinv.defenses.noise import gaussian_noise
from jaxinv.defenses.protection import protect
from jaxinv.errors import InputError
from jaxinv.hardening import noise_prices, scale_for, training_loss
from jaxinv.release import gradient
from jaxinv.target import Batch

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def test_prices_of_a_parabola_are_its_curvature():
    def bowl(params, batch):
        del batch
        return 2.0 * jnp.sum(params["a"] ** 2) + 0.5 * jnp.sum(params["b"] ** 2)

    params = {"a": jnp.ones(3), "b": jnp.ones(40)}
    prices = noise_prices(
        jax.random.key(0), bowl, params, None, learning_rate=0.1, std=0.5, draws=4000
    )
    # h^2/2 tr H
    assert float(prices["a"]) == pytest.approx(0.005 * 4 * 3, rel=0.05)
    assert float(prices["b"]) == pytest.approx(0.005 * 1 * 40, rel=0.05)


def test_noise_in_training_costs_what_the_second_order_says():
    def bowl(params, batch):
        return 0.5 * jnp.sum(params["a"] ** 2) + 0 * batch.inputs.sum()

    data = Batch(jnp.zeros((5, 1)), jnp.zeros(5, int))
    measure = training_loss(
        bowl, data, data, learning_rate=0.1, num_steps=1, batch_size=2
    )
    release = gradient(bowl)
    params = {"a": jnp.ones(10)}
    noisy = protect(release, gaussian_noise(2.0))
    keys = jax.random.split(jax.random.key(0), 4000)
    losses = jax.vmap(lambda k: measure(k, noisy, params))(keys)
    clean = float(measure(keys[0], release, params))
    assert clean == pytest.approx(0.5 * 10 * 0.81, rel=1e-5)
    assert float(losses.mean()) - clean == pytest.approx(0.5 * 0.01 * 4 * 10, rel=0.1)


def test_the_scale_at_which_a_harm_is_as_wanted():
    found = jax.jit(lambda w: scale_for(lambda f: 3 * f**2, w, num_halvings=30))(12.0)
    assert float(found) == pytest.approx(2, rel=1e-4)
    with pytest.raises(InputError, match="low is 2"):
        scale_for(lambda f: f, 1.0, low=2, high=1)
