"""LLG*: label leakage with impact and offset measured on the model itself.

Wainakh et al., "User-Level Label Leakage from Gradients in Federated Learning", PoPETs
2022 (arXiv 2105.09369): the attacker runs dummy data of known labels through the model.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxinv.attacks.labels.counts import greedy, labels_from_counts
from jaxinv.attacks.labels.head import read_head
from jaxinv.errors import InputError
from jaxinv.layers import find_head
from jaxinv.observation import Observation
from jaxinv.release import gradient
from jaxinv.space import LabelRule
from jaxinv.target import Batch, Target


def wainakh_whitebox(target: Target, *, num_dummies: int = 16) -> LabelRule:
    """LLG* with standard normal dummy inputs.

    One table holds all that is measured: entry (j, i) is the sum of class i's row
    when every dummy has label j. The impact is the mean of the diagonal, times
    `(1 + 1/K) / N`; the offset of class i is the mean of column i off the diagonal,
    for the gradient of the mean loss is linear in the labels' frequencies. (A peer's
    code sums all rows instead of the diagonal, which is zero for cross-entropy, and
    lowers the wrong class when a label repeats.)

    Args:
      target: the model, run K times on the dummies.
      num_dummies: how many dummy inputs are drawn.

    Raises:
      InputError: `num_dummies` is below 1.
    """
    if num_dummies < 1:
        raise InputError(f"num_dummies is {num_dummies}; expected 1 or more")
    release = gradient(target.loss)

    def rule(key: jax.Array, observation: Observation) -> jax.Array:
        num, spec = observation.num_examples, observation.spec
        params, _ = observation.round(0)
        head = read_head(observation, who="the label rule wainakh_whitebox")
        inputs = jax.random.normal(key, (num_dummies, *spec.shape))

        def row_sums(label: jax.Array) -> jax.Array:
            labels = jnp.full(num_dummies, label, jnp.int32)
            dummy = release(key, params, Batch(inputs, labels))
            return find_head(dummy, spec).kernel.sum(0)

        table = jax.lax.map(row_sums, jnp.arange(spec.num_classes))
        own = jnp.diagonal(table)
        offset = (table.sum(0) - own) / max(spec.num_classes - 1, 1)
        impact = own.mean() * (1 + 1 / spec.num_classes) / num
        rows = head.kernel.sum(0)
        return labels_from_counts(greedy(rows, impact, num, offset=offset), num)

    return rule
