"""What tests of selective encryption share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encrypted_updates import MLP

from jaxinv.target import Batch


@pytest.fixture(scope="module")
def planted_image():
    """Target, params and the one example that attackers look for."""
    pixels = np.random.default_rng(0).uniform(size=(1, 4, 4, 1)).astype(np.float32)
    params = jax.jit(MLP.init)(jax.random.key(0))
    return MLP, params, Batch(jnp.asarray(pixels), jnp.array([1]))
