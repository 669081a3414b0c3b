"""Noise: independent Gaussian or Laplace noise on every number of the update.

Gaussian: Abadi et al., CCS 2016, arXiv 1607.00133; Laplace: Dwork et al., TCC 2006. As
defences against gradient inversion: Zhu et al., NeurIPS 2019, arXiv 1906.08935, section
5.1. Without a bound on what one example adds (clipping) there is no epsilon to state.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxinv.defenses.checks import check_finite
from jaxinv.defenses.protection import Defense
from jaxinv.errors import InputError


class NoiseState(NamedTuple):
    """What noise is drawn from."""

    key: jax.Array
    """Split at every update."""


def gaussian_noise(std: Any = 1e-2, *, seed: int = 0) -> Defense:
    """Adds Gaussian noise.

    Args:
      std: standard deviation, one for all or a tree of one number per tensor of the
        update (which may be traced: the noise is differentiable in it).
      seed: of the first draw where the transformation is used on its own; within
        `protect` the release's key decides.

    Raises:
      InputError: a standard deviation is negative or no number; when used, the tree
        does not fit the update.
    """
    return _noise("std", std, jax.random.normal, 1.0, seed)


def laplace_noise(std: Any = 1e-2, *, seed: int = 0) -> Defense:
    """Adds Laplace noise of the same standard deviation; arguments as there."""
    return _noise("std", std, jax.random.laplace, math.sqrt(0.5), seed)


def _noise(name: str, std: Any, draw: Any, unit: float, seed: int) -> Defense:
    for leaf in jax.tree.leaves(std):
        if not isinstance(leaf, jax.Array):
            check_finite(name, leaf)

    def init(params: Any) -> NoiseState:
        del params
        return NoiseState(jax.random.key(seed))

    def update(updates: Any, state: Any, params: Any = None):
        del params
        after, now = jax.random.split(state.key)
        leaves, structure = jax.tree.flatten(updates)
        scales = per_tensor(name, std, updates)
        keys = jax.random.split(now, len(leaves))
        noisy = [
            leaf + (unit * scale * draw(k, leaf.shape)).astype(leaf.dtype)
            for k, leaf, scale in zip(keys, leaves, scales, strict=True)
        ]
        return jax.tree.unflatten(structure, noisy), NoiseState(after)

    return optax.GradientTransformation(init, update)


def per_tensor(name: str, value: Any, updates: Any) -> list[jax.Array]:
    """One number for every tensor of the update, from one for all or a tree.

    Raises:
      InputError: the tree does not fit the update.
    """
    leaves, structure = jax.tree.flatten(updates)
    given = jax.tree.structure(value)
    if jax.tree_util.treedef_is_leaf(given):
        return [jnp.asarray(value)] * len(leaves)
    if given != structure:
        raise InputError(
            f"{name} is a tree {given}; expected one number, or one for every tensor "
            f"of the update {structure}"
        )
    return [jnp.asarray(leaf) for leaf in jax.tree.leaves(value)]
