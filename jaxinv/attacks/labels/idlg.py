"""iDLG: the label of a single example from the signs of the last layer's gradient.

Zhao, Mopuri, Bilen, "iDLG: Improved Deep Leakage from Gradients", arXiv 2001.02610,
eq. 4: the row of the true class has a non-positive inner product with every other.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxinv.attacks.labels.head import read_head
from jaxinv.errors import InputError
from jaxinv.observation import Observation
from jaxinv.space import LabelRule


def idlg() -> LabelRule:
    """The sign rule for a batch of one.

    Row c of the gradient is `(p_c - y_c) x`, so rows of wrong classes point one way
    and the true class's the other, whatever the signs of the features `x`. With two
    classes both rows qualify and the rule falls back on non-negative features.

    Raises:
      InputError: when called on an observation of more than one example.
    """

    def rule(key: jax.Array, observation: Observation) -> jax.Array:
        del key  # deterministic
        if observation.num_examples != 1:
            raise InputError(
                f"num_examples is {observation.num_examples}; expected 1, the sign "
                "rule of iDLG holds for a single example"
            )
        kernel = read_head(observation, who="the label rule idlg").kernel
        if kernel.shape[1] == 2:
            return jnp.argmin(kernel.sum(0))[None].astype(jnp.int32)
        # Unit rows: a confident model's products would underflow.
        norms = jnp.linalg.norm(kernel, axis=0)
        rows = kernel / jnp.maximum(norms, jnp.finfo(norms.dtype).tiny)
        products = rows.T @ rows
        others = jnp.where(jnp.eye(kernel.shape[1], dtype=bool), -jnp.inf, products)
        # A row that underflowed to zero agrees with everything; it is no candidate.
        worst = jnp.where(norms > 0, others.max(0), jnp.inf)
        return jnp.argmin(worst)[None].astype(jnp.int32)

    return rule
