"""The output layer's gradient as the rules read it, encrypted numbers filled in.

With softmax and cross-entropy the gradient at the logits sums to zero over the classes,
and so do each row of the kernel's gradient and the bias's. What is hidden of a row
therefore has the sum that the plain rest lacks: a single hidden number is known
exactly, several to their mean. Re-derived; the literature on selective encryption known
to us does not use it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxinv.layers import Dense, find_head
from jaxinv.observation import Observation, mean_gradient


def read_head(observation: Observation, *, who: str, needs_bias: bool = False) -> Dense:
    """The mean gradient of the output layer, kernel `[D, K]` and bias `[K]`.

    Of a row of which nothing is visible every number is 0: where that is all rows, the
    answer of a rule is a guess.

    Args:
      observation: what the attacker has.
      who: what reads it, for refusals.
      needs_bias: whether to refuse an output layer without bias.

    Raises:
      InputError: as `find_head` and `mean_gradient`.
    """
    update = mean_gradient(observation, who=who, partial=True)
    head = find_head(update, observation.spec, needs_bias=needs_bias)
    shown = observation.shown(0)
    if shown is None:
        return head
    plain = find_head(shown, observation.spec, needs_bias=needs_bias)
    bias = None if head.bias is None else completed(head.bias, plain.bias)
    return Dense(completed(head.kernel, plain.kernel), bias)


def completed(values: jax.Array, shown: jax.Array | None) -> jax.Array:
    """`[..., K]`, hidden numbers made equal ones with which a row sums to zero."""
    hidden = ~jnp.asarray(shown)
    lacking = -jnp.sum(jnp.where(hidden, 0, values), -1, keepdims=True)
    share = lacking / jnp.maximum(hidden.sum(-1, keepdims=True), 1)
    return jnp.where(hidden, share, values)
