"""Labels from where an update is encrypted, without reading a number of it.

A client that encrypts its largest numbers says where they are: the row of the true
class has the largest gradient at the logits, `|p - 1|` against `p`, so that more of its
numbers are hidden than of the others. Re-derived; a warning of the published work on
selective encryption (arXiv 2508.04155, as far as public) is not known to us.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxinv.attacks.labels.counts import labels_from_counts, largest_remainder
from jaxinv.layers import find_head
from jaxinv.observation import Observation, require
from jaxinv.space import LabelRule


def masked_rows() -> LabelRule:
    """Counts in proportion to the hidden numbers of each class, above the median.

    Counted are the column of the last kernel and the entry of the bias. Where the mask
    says nothing (all alike) the labels are drawn by the key. A rule of its own, not in
    `LABEL_RULES`: it needs `Knowledge.visible`.

    Raises:
      KnowledgeError: when called, `visible` is not granted.
    """

    def rule(key: jax.Array, observation: Observation) -> jax.Array:
        require(
            observation, "visible", why="the label rule masked_rows reads nothing else"
        )
        num = observation.num_examples
        kernel, bias = find_head(observation.shown(0), observation.spec)
        hidden = jnp.sum(~kernel, 0)
        hidden = hidden if bias is None else hidden + ~bias
        # Whole numbers: what is drawn below 1 decides ties alone.
        drawn = jax.random.uniform(key, hidden.shape)
        excess = jnp.maximum(hidden - jnp.median(hidden), 0.0)
        weight = jnp.where(excess.any(), excess, 0.0) + 1e-3 * drawn
        return labels_from_counts(
            largest_remainder(num * weight / weight.sum(), num), num
        )

    return rule
