"""Counts from the bias gradient of the output layer, with a certified part.

The sign rule of Zhao et al. (iDLG, arXiv 2001.02610) for a batch: with softmax and
cross-entropy, `db_k = mean_n p_nk - count_k / N`. Hence a class with a negative entry
is in the batch, at least `ceil(-N db_k)` times.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxinv.attacks.labels.counts import labels_from_counts, largest_remainder
from jaxinv.attacks.labels.head import read_head
from jaxinv.observation import Observation
from jaxinv.space import LabelRule


def analytic(*, tolerance: float = 1e-4) -> LabelRule:
    """Lower bounds from the signs, the rest as if the model predicted uniformly.

    The bounds hold for any model; what is left is shared out by the estimate
    `N (1/K - db_k)`, exact for a model that has learnt nothing. (A peer's rule of the
    same name stops at the negative entries and fills up with random classes.)

    Args:
      tolerance: rounding allowed, in examples, before a bound is rounded up.
    """

    def rule(key: jax.Array, observation: Observation) -> jax.Array:
        del key  # deterministic
        bias = read_head(
            observation, who="the label rule analytic", needs_bias=True
        ).bias
        assert bias is not None
        num = observation.num_examples
        bound = jnp.where(bias < 0, jnp.ceil(-num * bias - tolerance), 0)
        estimate = num * (1.0 / bias.size - bias)
        # An update that was scaled or noised can certify more than there are.
        bound = jnp.clip(bound, 0, num).astype(jnp.int32)
        counts = largest_remainder(estimate, num, at_least=bound)
        return labels_from_counts(counts, num)

    return rule
