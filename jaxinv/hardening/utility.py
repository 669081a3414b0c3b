"""Utility of noise: by how much it raises the loss on data that nobody trained on.

The variance of the noise alone is no measure: a unit of it costs more where the loss
is curved. After one step of size h the mean rise is `h^2/2 tr(H Sigma)` to second
order, so a tensor has a price, the rise per unit of its variance. Prices guide the
search; what is compared and reported is the loss itself after real noisy steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from jaxinv.defenses.noise import per_tensor
from jaxinv.errors import InputError
from jaxinv.options import check_positive
from jaxinv.release import Release, trained
from jaxinv.target import Batch, LossFn, Params, Variables


def noise_prices(
    key: jax.Array,
    loss: LossFn,
    params: Params,
    batch: Any,
    *,
    learning_rate: float,
    std: Any,
    draws: int = 32,
    least: float = 1e-2,
) -> Any:
    """What a unit of noise variance in each tensor costs, by measuring.

    `E[L(w + h s e) + L(w - h s e) - 2 L(w)] / (2 s^2)`, e standard normal in one tensor
    and 0 in the others: the first order falls out draw by draw.

    Args:
      key: of the noise.
      loss: `(params, batch) -> scalar`, of the batch given.
      params: the weights, of which the tensors are those that are trained.
      batch: data held out from training.
      learning_rate: h, of the step that carries the noise into the weights.
      std: s, about as large as the noise will be (a curved loss is no parabola); one
        for all or a tree.
      draws: antithetic pairs.
      least: least price of a tensor, as a share of the median price per entry times
        its entries: where the loss curves down, noise is not free.

    Returns:
      A tree of one positive number per tensor, in units of the loss per variance.

    Raises:
      InputError: `draws` is not a positive integer, or no tensor has a price.
    """
    check_positive("draws", draws)
    weights = trained(params)
    leaves, structure = jax.tree.flatten(weights)
    stds = per_tensor("std", std, weights)

    def at(leaves: list[jax.Array]) -> jax.Array:
        moved = jax.tree.unflatten(structure, leaves)
        if isinstance(params, Variables):
            moved = params._replace(params=moved)
        return loss(moved, batch)

    here = at(leaves)
    prices = []
    for i, (leaf, s) in enumerate(zip(leaves, stds, strict=True)):

        def rise(key: jax.Array, i: int = i, leaf: jax.Array = leaf, s: Any = s):
            step = learning_rate * s * jax.random.normal(key, leaf.shape, leaf.dtype)
            up = at([*leaves[:i], leaf + step, *leaves[i + 1 :]])
            down = at([*leaves[:i], leaf - step, *leaves[i + 1 :]])
            return (up + down - 2 * here) / (2 * jnp.square(s))

        keys = jax.random.split(jax.random.fold_in(key, i), draws)
        prices.append(jax.lax.map(rise, keys).mean())
    sizes = jnp.asarray([leaf.size for leaf in leaves])
    each = jnp.stack(prices) / sizes
    middle = jnp.median(jnp.maximum(each, 0))
    middle = jnp.where(middle > 0, middle, jnp.maximum(each, 0).mean())
    if not isinstance(middle, Tracer) and not float(middle) > 0:
        raise InputError(
            "std makes no rise of the loss in any tensor; expected a larger one"
        )
    return jax.tree.unflatten(
        structure, list(jnp.maximum(each, least * middle) * sizes)
    )


def training_loss(
    loss: LossFn,
    data: Batch,
    held_out: Batch,
    *,
    learning_rate: float,
    num_steps: int,
    batch_size: int,
) -> Callable[[jax.Array, Release, Params], jax.Array]:
    """`(key, release, params) -> [] held-out loss` after some steps of SGD.

    The order of the data comes from the key alone, so that two releases under one key
    see the same batches, and their difference is the defence's.

    Args:
      loss: `(params, batch) -> scalar`.
      data: to train on, leaves `[M, ...]`.
      held_out: to judge on.
      learning_rate: of the steps.
      num_steps: how many.
      batch_size: examples in each, drawn with replacement.

    Raises:
      InputError: an argument is out of range.
    """
    for name, value in (("num_steps", num_steps), ("batch_size", batch_size)):
        check_positive(name, value)

    def run(key: jax.Array, release: Release, params: Params) -> jax.Array:
        def step(params: Params, key: jax.Array):
            key_rows, key_release = jax.random.split(key)
            count = data.inputs.shape[0]
            rows = jax.random.randint(key_rows, (batch_size,), 0, count)
            batch = jax.tree.map(lambda leaf: leaf[rows], data)
            update = release(key_release, params, batch)
            moved = optax.apply_updates(
                trained(params), jax.tree.map(lambda g: -learning_rate * g, update)
            )
            if isinstance(params, Variables):
                return params._replace(params=moved), None
            return moved, None

        params, _ = jax.lax.scan(step, params, jax.random.split(key, num_steps))
        return loss(params, held_out)

    return run


def scale_for(
    measure: Callable[[jax.Array], jax.Array],
    wanted: jax.Array | float,
    *,
    low: float = 1e-2,
    high: float = 1e2,
    num_halvings: int = 12,
) -> jax.Array:
    """The factor at which a rising measure of harm is as wanted, by bisection.

    So two defences are compared at equal measured utility.

    Args:
      measure: `(factor) -> scalar`, rising, such as the extra loss of noise times the
        factor; it must draw the same at every call.
      wanted: its value.
      low: end of the range.
      high: end of the range; what lies outside is given its end.
      num_halvings: of the range of the logarithm.

    Raises:
      InputError: the range is empty.
    """
    if not 0 < low < high:
        raise InputError(f"low is {low!r}; expected above 0 and below high = {high!r}")
    check_positive("num_halvings", num_halvings)

    def halve(_: int, ends: tuple[jax.Array, jax.Array]):
        middle = (ends[0] + ends[1]) / 2
        # What is not finite is more harm than any.
        below = measure(jnp.exp(middle)) < wanted
        return jnp.where(below, middle, ends[0]), jnp.where(below, ends[1], middle)

    ends = (jnp.log(jnp.asarray(low)), jnp.log(jnp.asarray(high)))
    low_end, high_end = jax.lax.fori_loop(0, num_halvings, halve, ends)
    return jnp.exp((low_end + high_end) / 2)
