"""Pruning that has a derivative by its threshold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.errors import InputError
from jaxinv.hardening import soft_pruning

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def test_soft_pruning_is_pruning_in_the_limit_and_moves_with_its_threshold():
    update = {"a": jnp.asarray([0.1, -2.0, 0.5]), "b": jnp.asarray([3.0, 0.01])}

    def sent(threshold, temperature):
        defense = soft_pruning(threshold, temperature=temperature)
        return defense.update(update, defense.init(update))[0]

    hard = sent(0.4, 1e-3)
    np.testing.assert_allclose(hard["a"], [0, -2.0, 0.5], atol=1e-6)
    np.testing.assert_allclose(hard["b"], [3.0, 0], atol=1e-6)
    slope = jax.grad(lambda t: jnp.abs(sent(t, 0.1)["a"]).sum())(0.4)
    assert float(slope) < 0
    with pytest.raises(InputError, match="temperature is 0"):
        soft_pruning(0.1, temperature=0)
