"""What server and clients share: the model, the data, how clients train, the audit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import jaxinv
from jaxinv import attacks, flower, models
from jaxinv.data.digits import read_digits

EXAMPLES = 4
"""Digits that a client trains on in a round."""

SPEC = jaxinv.Spec((8, 8, 1), 10)
TARGET = models.build("mlp", SPEC, widths=(256,))
RELEASE = jaxinv.fedavg(TARGET.loss, 0.1, local_steps=1)


def initial():
    """The parameters before the first round."""
    return jax.jit(TARGET.init)(jax.random.key(0))


def batch_of(partition: int, server_round: int) -> jaxinv.Batch:
    """The digits of one client in one round; no other client or round has them."""
    images, labels, _, _ = read_digits()
    order = np.random.default_rng(0).permutation(len(labels))
    first = EXAMPLES * (2 * server_round + partition)
    chosen = order[first : first + EXAMPLES]
    inputs = SPEC.normalise(jnp.asarray(images[chosen], jnp.float32) / 255)
    return jaxinv.Batch(inputs, jnp.asarray(labels[chosen]))


def others() -> jax.Array:
    """`[1000, 8, 8, 1]` digits that no client trains on."""
    images, labels, _, _ = read_digits()
    order = np.random.default_rng(0).permutation(len(labels))
    return SPEC.normalise(jnp.asarray(images[order[-1000:]], jnp.float32) / 255)


def audit() -> flower.Audit:
    """The closed form on the first layer, which knows how clients train."""
    return flower.Audit(
        attacks.linear_layer(TARGET),
        SPEC,
        to_params=flower.in_order(initial()),
        local_training=RELEASE.local,
    )
