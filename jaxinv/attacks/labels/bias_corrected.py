"""Bias-corrected counts: label leakage read from the bias instead of the kernel.

The default of the breaching framework (Geiping et al. 2022,
github.com/JonasGeiping/breaching), after Wainakh et al. 2022 (arXiv 2105.09369). The
bias sees features that are all one, so their signs and sizes do not matter.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxinv.attacks.labels.counts import greedy, labels_from_counts
from jaxinv.attacks.labels.head import read_head
from jaxinv.observation import Observation
from jaxinv.space import LabelRule


def bias_corrected() -> LabelRule:
    """LLG's two stages on the bias gradient; the impact is its negative mass over N."""

    def rule(key: jax.Array, observation: Observation) -> jax.Array:
        del key  # deterministic
        num = observation.num_examples
        bias = read_head(
            observation, who="the label rule bias_corrected", needs_bias=True
        ).bias
        assert bias is not None
        impact = jnp.minimum(bias, 0).sum() / num
        return labels_from_counts(greedy(bias, impact, num), num)

    return rule
