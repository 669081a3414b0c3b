"""Soft masks: smooth stand-ins for defences that choose, and what an attacker knows.

A rate of pruning and a set of encrypted tensors are choices, whose derivative is 0 or
does not exist. Here a sigmoid stands for the choice while a defence is learned; what
is deployed, and what is reported, is the choice itself. The sigmoid over a temperature
is that of the concrete relaxation without its noise: Maddison, Mnih and Teh, ICLR 2017,
arXiv 1611.00712.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxinv.defenses.noise import per_tensor
from jaxinv.defenses.protection import Defense
from jaxinv.errors import InputError
from jaxinv.matching import LeafWeights


def soft_pruning(threshold: Any, *, temperature: float = 0.1) -> Defense:
    """Sends `g * sigmoid((|g| / threshold - 1) / temperature)`.

    In the limit of temperature 0 the numbers above the threshold are sent and the
    others are 0: pruning at the rate that the threshold makes.

    Args:
      threshold: above 0, one for all or a tree of one number per tensor; it may be
        traced.
      temperature: above 0; how soft the edge is, in units of the threshold.

    Raises:
      InputError: the temperature is not positive; when used, the tree does not fit.
    """
    if not temperature > 0:
        raise InputError(f"temperature is {temperature!r}; expected a positive number")

    def update(updates: Any, state: Any, params: Any = None):
        del params
        leaves, structure = jax.tree.flatten(updates)
        edges = per_tensor("threshold", threshold, updates)
        sent = [
            g * jax.nn.sigmoid((jnp.abs(g) / edge - 1) / temperature)
            for g, edge in zip(leaves, edges, strict=True)
        ]
        return jax.tree.unflatten(structure, sent), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def visible(masks: Any) -> LeafWeights:
    """Weights of a match of updates of which `masks` is hidden (encrypted).

    A tensor of mask 1 is not seen and one of mask 0 is, as in the match on what was
    sent; between them it counts for `1 - mask`. To multiply the update itself would
    hide nothing: who knows the mask divides by it.

    Args:
      masks: a tree of one number in [0, 1] per tensor; it may be traced.
    """

    def weights(observed: Any) -> list[jax.Array]:
        return [1 - mask for mask in per_tensor("masks", masks, observed)]

    return weights


def inverse_variance(std: Any) -> LeafWeights:
    """Weights `1 / (2 std^2)`: of the squared match, the likelihood of Gaussian noise.

    What an attacker minimises who knows the standard deviations and not the draw; with
    minus the logarithm of a prior beside it the solution is the most probable batch.

    Args:
      std: one number for all or a tree of one per tensor; it may be traced.
    """

    def weights(observed: Any) -> list[jax.Array]:
        return [0.5 / jnp.square(s) for s in per_tensor("std", std, observed)]

    return weights
