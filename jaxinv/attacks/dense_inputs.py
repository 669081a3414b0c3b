"""Ways to tell inputs of a dense layer from the gradients of its kernel and bias."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxinv.attacks.encrypted import read_pixels
from jaxinv.layers import Dense


class Clusters(NamedTuple):
    """Units of the layer grouped by the example they give away, best group first."""

    inputs: jax.Array
    """`[N, D]`, zeros where no group was left."""
    members: jax.Array
    """`[N, H]` bool, the units of each group."""
    support: jax.Array
    """`[N]` int32, how many units agree on the input; 0 where no group was left."""
    known: jax.Array
    """`[N]`, share of the input's numbers that were read; the others are their mean."""


def cluster(
    dense: Dense,
    num_examples: int,
    box: tuple[jax.Array, jax.Array],
    *,
    tolerance: float,
) -> Clusters:
    """Groups of units that give the same ratio, the largest first.

    Args:
      dense: the layer's gradient, kernel `[D, H]` and bias `[H]`.
      num_examples: N, how many groups to return.
      box: lowest and highest value of an input, `[D]` each.
      tolerance: angle between agreeing columns, in radians.
    """
    kernel, bias = dense
    assert bias is not None
    rows = jnp.concatenate([kernel, bias[None]])
    norms = jnp.linalg.norm(rows, axis=0)
    # Below this a column is the rounding of larger ones that cancelled.
    alive = (norms > 1e-6 * norms.max()) & (bias != 0)
    unit = rows * jnp.where(alive, jnp.sign(bias) / norms, 0.0)
    # |u - v| for unit vectors; the difference of squares keeps its digits because
    # the products are accurate to one rounding.
    chord2 = 2.0 - 2.0 * jnp.einsum("dr,ds->rs", unit, unit, precision="highest")
    agree = (chord2 <= tolerance**2) & alive[:, None] & alive[None, :]
    ratio = kernel / jnp.where(alive, bias, 1.0)
    in_box = ((ratio >= box[0][:, None]) & (ratio <= box[1][:, None])).all(0)
    candidate = alive & in_box

    def take(free: jax.Array, _):
        support = jnp.where(free, (agree & free[None, :]).sum(1), 0)
        # Of equal groups the one with the largest gradient is the most accurate.
        best = jnp.argmax(support + jnp.abs(bias) / (2 * jnp.abs(bias).max()))
        count = support[best]
        members = agree[best] & free & (count > 0)
        weight = jnp.where(members, bias, 0.0)
        tiny = jnp.finfo(bias.dtype).tiny
        point = kernel @ weight / jnp.maximum(jnp.sum(weight**2), tiny)
        return free & ~members, (point, members, count)

    _, groups = jax.lax.scan(take, candidate, length=num_examples)
    inputs, members, support = groups
    return Clusters(
        inputs, members, support.astype(jnp.int32), (support > 0).astype(inputs.dtype)
    )


def unexplained(
    dense: Dense, inputs: jax.Array, shown: Dense | None = None
) -> jax.Array:
    """`[]`, the share of the layer's gradient outside the span of the inputs `[N, D]`.

    The bias joins as one more entry of 1 in every input: mixtures of the truth pass,
    inputs that belong to no example do not. Of a batch of one whose layer is hidden in
    part, what is `shown` beside its bias.
    """
    kernel, bias = dense
    assert bias is not None
    tiny = jnp.finfo(kernel.dtype).tiny
    if shown is not None and shown.bias is not None and len(inputs) == 1:
        plain = shown.kernel & shown.bias
        left = jnp.where(plain, kernel - inputs[0][:, None] * bias, 0.0)
        size = jnp.linalg.norm(jnp.where(plain, kernel, 0.0))
        return jnp.linalg.norm(left) / jnp.maximum(size, tiny)
    rows = jnp.concatenate([kernel, bias[None]])
    # A missing input is zero and must not bring in the bias direction.
    present = (inputs != 0).any(1).astype(inputs.dtype)
    basis = jnp.concatenate([inputs, present[:, None]], axis=1).T
    weights = jnp.linalg.lstsq(basis, rows)[0]
    left = rows - basis @ weights
    return jnp.linalg.norm(left) / jnp.maximum(jnp.linalg.norm(rows), tiny)


def plain_part(dense: Dense, shown: Dense, *, whole_units: bool) -> Dense:
    """The layer with zeros for what is hidden, or for units of which anything is."""
    assert dense.bias is not None and shown.bias is not None
    units = shown.kernel.all(0) & shown.bias
    kernel, bias = (units, units) if whole_units else (shown.kernel, shown.bias)
    return Dense(jnp.where(kernel, dense.kernel, 0.0), jnp.where(bias, dense.bias, 0.0))


def by_pixels(dense: Dense, shown: Dense, box: tuple[jax.Array, jax.Array]) -> Clusters:
    """The input of a batch of one, from whichever units show a number of it.

    Args:
      dense: the layer's gradient, kernel `[D, H]` and bias `[H]`, 0 where hidden.
      shown: bools like it, True where plain.
      box: lowest and highest value of an input, `[D]` each.
    """
    inputs, known = read_pixels(dense, shown)
    known &= (inputs >= box[0]) & (inputs <= box[1])
    mean = jnp.sum(inputs, where=known) / jnp.maximum(known.sum(), 1)
    assert shown.bias is not None and dense.bias is not None
    members = shown.bias & (dense.bias != 0) & (shown.kernel & known[:, None]).any(0)
    return Clusters(
        jnp.where(known, inputs, mean)[None],
        members[None],
        members.sum(dtype=jnp.int32)[None],
        known.mean()[None],
    )
