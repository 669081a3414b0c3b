"""Convolution as one matrix product of patches (im2col).

Gradient inversion differentiates the gradient, for many restarts at once. A vmap
over restarts gives `lax.conv_general_dilated` another kernel for each, a grouped
convolution, which XLA runs slowly on CPU; here it is a batched matrix product.
Source: Chellapilla, Puri and Simard, "High Performance Convolutional Neural Networks
for Document Processing", 2006. The price is memory, one copy of the input for each
entry of the kernel.

Groups are one more axis of the batched product, down to one channel each (depthwise):
there a sum over shifted products is faster forward but slower in second derivatives.
Dilated inputs (transposed convolution) take the product first and add up what
overlaps (col2im), the transpose of patches, so no zeros are multiplied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxinv_kernels.conv.layout import Geometry, geometry
from jaxinv_kernels.windows import Padding, windows


def conv(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: Padding,
    *,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    groups: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> jax.Array:
    """Convolution (cross-correlation) with the channels last.

    Args:
      lhs: inputs `[N, *spatial, G * I]`, floating point.
      rhs: kernel `[*window, I, G * O]`, of the same type.
      window_strides: one for each spatial axis.
      padding: "SAME", "SAME_LOWER", "VALID" or (low, high) for each spatial axis,
        after dilation; negative entries crop.
      lhs_dilation: of the inputs, one for each spatial axis; no string for `padding`
        then.
      rhs_dilation: of the kernel, one for each spatial axis.
      groups: G, groups of channels that do not mix.
      precision: of the matrix product, as in `jax.lax.dot_general`.
      preferred_element_type: of the result, as in `jax.lax.dot_general`.

    Returns:
      `[N, *out, G * O]`.
    """
    sizes = geometry(
        lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, groups
    )
    # Groups in front of the examples: patches are the large array, so move the inputs.
    lhs = _groups_first(lhs, groups)
    rhs = _groups_first(rhs, groups)

    def product(rows: jax.Array, columns: jax.Array) -> jax.Array:
        # Two axes each where one group: a whole batch is one call of the matrix kernel.
        if groups == 1:
            rows, columns = rows[0], columns[0]
        return jnp.matmul(
            rows,
            columns,
            precision=precision,
            preferred_element_type=preferred_element_type,
        )

    dilated = any(d > 1 for d in sizes.lhs_dilation)
    if dilated and all(s == 1 for s in sizes.strides):
        out = _overlap(lhs, rhs, sizes, product)
    else:
        out = _patches(lhs, rhs, sizes, product)
    return _groups_last(out, groups)


def _patches(lhs: jax.Array, rhs: jax.Array, sizes: Geometry, product: Any):
    """`[G * N, *out, O]` of `[G, N, *spatial, I]` and `[G, *window, I, O]`."""
    groups, examples, *spatial, channels = lhs.shape
    _, *window, _, features = rhs.shape
    lhs = lhs.reshape(groups * examples, *spatial, channels)
    pads = sizes.pads
    if any(d > 1 for d in sizes.lhs_dilation):
        inside = zip(pads, sizes.lhs_dilation, strict=True)
        config = [(low, high, d - 1) for (low, high), d in inside]
        lhs = lax.pad(lhs, jnp.zeros((), lhs.dtype), [(0, 0, 0), *config, (0, 0, 0)])
        pads = ((0, 0),) * len(pads)
    strides = []
    for size, (low, high), w, d, s in zip(
        lhs.shape[1:-1], pads, window, sizes.rhs_dilation, sizes.strides, strict=True
    ):
        # Strides do not matter to a single window; touching windows are a reshape.
        room = size + low + high - (w - 1) * d - 1
        strides.append(w if 0 <= room < min(s, w) else s)
    patches = windows(lhs, window, strides, pads, dilation=sizes.rhs_dilation)
    _, *out, taps, _ = patches.shape
    rows = patches.reshape(groups, -1, taps * channels)
    found = product(rows, rhs.reshape(groups, taps * channels, features))
    return found.reshape(groups * examples, *out, features)


def _overlap(lhs: jax.Array, rhs: jax.Array, sizes: Geometry, product: Any):
    """As `_patches`, for dilated inputs and strides of 1.

    The input at i adds its product with entry t of the kernel to the output at
    `i * lhs_dilation + low - t * rhs_dilation`: windows over the outputs, transposed,
    with the entries reversed.
    """
    groups, examples, *spatial, channels = lhs.shape
    _, *window, _, features = rhs.shape
    taps = range(1, 1 + len(window))
    reverse = lax.rev(rhs, tuple(taps)).reshape(groups, -1, channels, features)
    columns = reverse.swapaxes(1, 2).reshape(groups, channels, -1)
    parts = product(lhs.reshape(groups, -1, channels), columns)
    parts = parts.reshape(groups * examples, *spatial, -1, features)
    out, pads = [], []
    for n, w, (low, high), inner, outer in zip(
        spatial, window, sizes.pads, sizes.rhs_dilation, sizes.lhs_dilation, strict=True
    ):
        reach = (w - 1) * inner
        out.append((n - 1) * outer + 1 + low + high - reach)
        pads.append((reach - low, reach - high))

    def gather(outputs: jax.Array) -> jax.Array:
        return windows(
            outputs, window, sizes.lhs_dilation, pads, dilation=sizes.rhs_dilation
        )

    outputs = jax.ShapeDtypeStruct((groups * examples, *out, features), parts.dtype)
    (found,) = jax.linear_transpose(gather, outputs)(parts)
    return found


def _groups_first(array: jax.Array, groups: int) -> jax.Array:
    """`[..., G * C]` as `[G, ..., C]`, inputs and kernels alike."""
    if groups == 1:
        return array[None]
    split = array.reshape(*array.shape[:-1], groups, array.shape[-1] // groups)
    return jnp.moveaxis(split, -2, 0)


def _groups_last(array: jax.Array, groups: int) -> jax.Array:
    """`[G * N, ..., O]` as `[N, ..., G * O]`."""
    if groups == 1:
        return array
    split = array.reshape(groups, array.shape[0] // groups, *array.shape[1:])
    moved = jnp.moveaxis(split, 0, -2)
    return moved.reshape(*moved.shape[:-2], groups * array.shape[-1])
