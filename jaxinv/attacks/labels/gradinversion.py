"""GradInversion's labels: the classes with the most negative entry in their row.

Yin, Mallya, Vahdat, Alvarez, Kautz, Molchanov, "See through Gradients: Image Batch
Recovery via GradInversion", CVPR 2021 (arXiv 2104.07586), eq. 7.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxinv.attacks.labels.head import read_head
from jaxinv.errors import InputError
from jaxinv.observation import Observation
from jaxinv.space import LabelRule


def gradinversion() -> LabelRule:
    """N distinct labels by the column-wise minimum of the last kernel's gradient.

    Assumes that no label occurs twice and that features are not negative.

    Raises:
      InputError: when called with more examples than classes.
    """

    def rule(key: jax.Array, observation: Observation) -> jax.Array:
        del key  # deterministic
        num, spec = observation.num_examples, observation.spec
        if num > spec.num_classes:
            raise InputError(
                f"num_examples is {num}; expected at most the {spec.num_classes} "
                "classes, this rule assumes distinct labels"
            )
        kernel = read_head(observation, who="the label rule gradinversion").kernel
        picked = jnp.argsort(kernel.min(0))[:num]
        return jnp.sort(picked).astype(jnp.int32)

    return rule
