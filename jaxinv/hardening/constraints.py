"""Constraints: what the parameters of a defence may be, as maps from free numbers.

A budget is kept exactly, by what the parameters are made of, and not by a penalty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxinv.errors import InputError


class Constraint(NamedTuple):
    """A map onto what is allowed, and back."""

    apply: Callable[[Any], Any]
    """`(theta) -> parameters`; theta is any tree of float arrays."""
    invert: Callable[[Any], Any]
    """`(parameters) -> theta`, one that is mapped there (or as near as allowed)."""


unconstrained = Constraint(lambda theta: theta, lambda parameters: parameters)
"""Any number, such as the weights of a network that perturbs the update."""

positive = Constraint(
    lambda theta: jax.tree.map(jax.nn.softplus, theta),
    lambda parameters: jax.tree.map(lambda p: p + jnp.log(-jnp.expm1(-p)), parameters),
)
"""Numbers above 0, such as standard deviations whose utility is weighted."""


def noise_budget(prices: Any, budget: float, *, floor: float = 1e-4) -> Constraint:
    """Standard deviations per tensor with `sum_l prices_l std_l^2 = budget`.

    Theta are the logits of each tensor's share of the budget.

    Args:
      prices: a tree of one positive number per tensor: what a unit of variance in it
        costs (`jaxinv.hardening.noise_prices`); the number of its entries keeps the
        energy of the noise.
      budget: the cost, in the prices' unit.
      floor: least share of a tensor, so that none is left without noise: its weight in
        an attacker's likelihood would be infinite.

    Raises:
      InputError: a price or the budget is not positive, or the floor leaves nothing.
    """
    costs = _numbers("prices", prices)
    structure = jax.tree.structure(prices)
    if not budget > 0:
        raise InputError(f"budget is {budget!r}; expected a positive number")
    if not 0 <= floor < 1 / len(costs):
        raise InputError(
            f"floor is {floor!r}; expected 0 or more, and below a {len(costs)}th, one "
            "for each tensor"
        )
    total = 1 - floor * len(costs)

    def apply(theta: Any) -> Any:
        shares = floor + total * jax.nn.softmax(jnp.stack(jax.tree.leaves(theta)))
        stds = [jnp.sqrt(budget * s / c) for s, c in zip(shares, costs, strict=True)]
        return jax.tree.unflatten(structure, stds)

    def invert(parameters: Any) -> Any:
        stds = jax.tree.leaves(parameters)
        spent = [c * jnp.square(s) for s, c in zip(stds, costs, strict=True)]
        shares = jnp.stack(spent) / sum(spent)
        logits = jnp.log(jnp.maximum(shares - floor, 1e-3 * floor + 1e-12))
        return jax.tree.unflatten(structure, list(logits - logits.mean()))

    return Constraint(apply, invert)


def mask_budget(sizes: Any, share: float) -> Constraint:
    """Soft masks in (0, 1) per tensor that hide `share` of all numbers.

    `sum_l sizes_l mask_l = share * sum_l sizes_l`: the budget of selective encryption,
    or of what may be left unsent. The logits are shifted alike, by as much as that
    takes.

    Args:
      sizes: a tree of how many numbers each tensor has (or each mask stands for).
      share: in (0, 1).

    Raises:
      InputError: a size is not positive, or the share out of range.
    """
    counts = [float(size) for size in _numbers("sizes", sizes)]
    structure = jax.tree.structure(sizes)
    if not 0 < share < 1:
        raise InputError(f"share is {share!r}; expected a number between 0 and 1")
    wanted = share * sum(counts)

    def apply(theta: Any) -> Any:
        logits = jnp.stack(jax.tree.leaves(theta))
        weights = jnp.asarray(counts, logits.dtype)

        def spent(shift: jax.Array, logits: jax.Array) -> jax.Array:
            return jnp.sum(weights * jax.nn.sigmoid(logits + shift))

        still = jax.lax.stop_gradient(logits)
        reach = jnp.abs(still).max() + 20.0

        def halve(_: int, ends: tuple[jax.Array, jax.Array]):
            middle = (ends[0] + ends[1]) / 2
            low = spent(middle, still) < wanted
            return jnp.where(low, middle, ends[0]), jnp.where(low, ends[1], middle)

        low, high = jax.lax.fori_loop(0, 60, halve, (-reach, reach))
        shift = jax.lax.stop_gradient((low + high) / 2)
        # One Newton step from the root: its value is the root's, and so is its slope.
        rise = jax.lax.stop_gradient(jax.grad(spent)(shift, logits))
        shift = shift - (spent(shift, logits) - wanted) / rise
        return jax.tree.unflatten(structure, list(jax.nn.sigmoid(logits + shift)))

    def invert(parameters: Any) -> Any:
        return jax.tree.map(lambda p: jnp.log(p) - jnp.log1p(-p), parameters)

    return Constraint(apply, invert)


def _numbers(name: str, tree: Any) -> list[Any]:
    leaves = jax.tree.leaves(tree)
    if not leaves or any(jnp.shape(leaf) != () for leaf in leaves):
        raise InputError(
            f"{name} is {tree!r}; expected a tree of one number per tensor"
        )
    for leaf in leaves:
        if not isinstance(leaf, Tracer) and not float(leaf) > 0:
            raise InputError(f"{name} holds {float(leaf):g}; expected positive numbers")
    return leaves
