"""LLG: labels from the signs and sizes of the rows of the last kernel's gradient.

Wainakh, Ventola, Muessig, Keim, Garcia Cordero, Zimmer, Grube, Kersting, Muehlhaeuser,
"User-Level Label Leakage from Gradients in Federated Learning", PoPETs 2022 (arXiv
2105.09369): the attack that sees the shared gradient and nothing else.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxinv.attacks.labels.counts import greedy, labels_from_counts
from jaxinv.attacks.labels.head import read_head
from jaxinv.observation import Observation
from jaxinv.space import LabelRule


def wainakh_simple() -> LabelRule:
    """LLG with the impact estimated from the gradient itself and no offset.

    `g_k` is the sum of class k's row. Non-negative features make it negative only
    for a class that is present. The impact of one example is
    `(1 + 1/K) / N * sum of the negative g_k`.
    """

    def rule(key: jax.Array, observation: Observation) -> jax.Array:
        del key  # deterministic
        num = observation.num_examples
        rows = read_head(observation, who="the label rule wainakh_simple").kernel.sum(0)
        impact = jnp.minimum(rows, 0).sum() * (1 + 1 / rows.size) / num
        return labels_from_counts(greedy(rows, impact, num), num)

    return rule
