"""3x3 convolution by Winograd's minimal filtering, F(2x2, 3x3).

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308:
a tile of 2x2 outputs is `A^T [(G g G^T) * (B^T d B)] A`, 16 multiplications where the
definition has 36. The products of all tiles are one batched matrix product, the three
transforms around it are linear; so every derivative is again transforms around the
same products and has the same saving, at about half the memory of patches.

F(4x4, 3x3) would need 9/4 fewer products again, but here it lost: its transforms cost
more than it saves, and its rounding error is ten times as large.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_TILE = 4
"""Side of an input tile; 2 of its entries belong to the next one as well."""


def suits(
    lhs_shape: Sequence[int],
    rhs_shape: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    rhs_dilation: Sequence[int],
    dtype: Any,
) -> bool:
    """Whether `conv` can do it, and is likely to be faster than patches on a CPU.

    Args:
      lhs_shape: of the inputs, `[N, H, W, I]`.
      rhs_shape: of the kernel, `[h, w, I, O]`.
      strides: along either axis.
      pads: (low, high) along either axis.
      rhs_dilation: along either axis.
      dtype: of the inputs.
    """
    if len(lhs_shape) != 4 or tuple(rhs_shape[:2]) != (3, 3):
        return False
    if any(n != 1 for n in (*strides, *rhs_dilation)):
        return False
    if min(n for pair in pads for n in pair) < 0 or dtype not in (
        jnp.float32,
        jnp.float64,
    ):
        return False
    batch, *size, channels = lhs_shape
    out = [n + low + high - 2 for n, (low, high) in zip(size, pads, strict=True)]
    if min(out) < 1:
        return False
    # Few tiles do not pay for the transform of the kernel, few channels not for those
    # of the inputs and outputs.
    tiles = batch * -(-out[0] // 2) * -(-out[1] // 2)
    return tiles >= 64 and min(channels, rhs_shape[-1]) >= 32


def conv(
    lhs: jax.Array,
    rhs: jax.Array,
    padding: Sequence[tuple[int, int]],
    *,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> jax.Array:
    """Convolution (cross-correlation) of 3x3 by steps of one, channels last.

    Args:
      lhs: inputs `[N, H, W, I]`.
      rhs: kernel `[3, 3, I, O]`.
      padding: zeros before and after either axis, 0 or more.
      precision: of the matrix product, as in `jax.lax.dot_general`.
      preferred_element_type: of the result, as in `jax.lax.dot_general`.

    Returns:
      `[N, H', W', O]` with `H' = H + low + high - 2`; exact up to a rounding error
      about twice that of the definition.
    """
    batch, height, width, channels = lhs.shape
    features = rhs.shape[-1]
    (top, bottom), (left, right) = padding
    out = height + top + bottom - 2, width + left + right - 2
    down, across = -(-out[0] // 2), -(-out[1] // 2)
    # Whole tiles: as many rows and columns as `down + 1` pairs.
    config = [
        (0, 0, 0),
        (top, 2 * (down + 1) - height - top, 0),
        (left, 2 * (across + 1) - width - left, 0),
        (0, 0, 0),
    ]
    pairs = lax.pad(lhs, jnp.zeros((), lhs.dtype), config)
    pairs = pairs.reshape(batch, down + 1, 2, across + 1, 2, channels)
    # The axes of a tile come to the front, columns before rows.
    tiles = _inputs(_inputs(pairs, 1), 3).reshape(
        _TILE**2, batch * down * across, channels
    )
    products = lax.dot_general(
        tiles,
        _kernel(rhs, precision),
        (((2,), (1,)), ((0,), (0,))),
        precision=precision,
        preferred_element_type=preferred_element_type,
    ).reshape(_TILE, _TILE, batch, down, across, features)
    found = _outputs(_outputs(products, 4), 2)
    found = found.reshape(batch, 2 * down, 2 * across, features)
    return found[:, : out[0], : out[1]]


def _inputs(pairs: jax.Array, axis: int) -> jax.Array:
    """`B^T d`: `[..., n + 1, 2, ...]` with n + 1 at `axis` to `[4, ..., n, ...]`."""
    count = pairs.shape[axis] - 1
    here = lax.slice_in_dim(pairs, 0, count, axis=axis)
    after = lax.slice_in_dim(pairs, 1, count + 1, axis=axis)
    a, b = (lax.index_in_dim(here, i, axis + 1, keepdims=False) for i in range(2))
    c, d = (lax.index_in_dim(after, i, axis + 1, keepdims=False) for i in range(2))
    return jnp.stack([a - c, b + c, c - b, b - d])


def _kernel(rhs: jax.Array, precision: Any) -> jax.Array:
    """`G g G^T`: `[3, 3, I, O]` to `[16, I, O]`, columns before rows."""
    one_axis = jnp.array(
        [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], rhs.dtype
    )
    # Both axes at once: one product with a small constant, of which XLA makes less code
    # than of sums. It does not depend on the guess, so it leaves the attack's loop.
    taps = jnp.swapaxes(rhs, 0, 1).reshape(9, -1)
    both = jnp.matmul(jnp.kron(one_axis, one_axis), taps, precision=precision)
    return both.reshape(_TILE**2, *rhs.shape[2:])


def _outputs(products: jax.Array, axis: int) -> jax.Array:
    """`A^T m` over the leading axis: `[4, ...]` to `[...]` with 2 new at `axis`."""
    a, b, c, d = products
    return jnp.stack([a + b + c, b - c - d], axis)
