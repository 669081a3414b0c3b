"""Any convolution as one with the channels last, its padding in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax import lax

from jaxinv_kernels.windows import Padding


class Geometry(NamedTuple):
    """The sizes of a convolution with the channels last."""

    lhs_shape: tuple[int, ...]
    """Of the inputs, `[N, *spatial, G * I]`."""
    rhs_shape: tuple[int, ...]
    """Of the kernel, `[*window, I, G * O]`."""
    strides: tuple[int, ...]
    """Steps from one window to the next, one for each spatial axis."""
    pads: tuple[tuple[int, int], ...]
    """(low, high) for each spatial axis, after dilation; negative entries crop."""
    lhs_dilation: tuple[int, ...]
    """Steps between two neighbouring inputs, one for each spatial axis."""
    rhs_dilation: tuple[int, ...]
    """Steps between two neighbouring entries of the kernel."""
    groups: int
    """G, groups of channels."""


def channels_last(
    lhs: jax.Array,
    rhs: jax.Array,
    numbers: lax.ConvDimensionNumbers,
    batch_groups: int,
) -> tuple[jax.Array, jax.Array]:
    """Inputs and kernel with the channels last, no groups but of channels.

    Args:
      lhs: inputs, laid out as `numbers` says.
      rhs: kernel, laid out as `numbers` says.
      numbers: where the axes are.
      batch_groups: B; example groups `[B * N, *spatial, I]` become channel groups
        `[N, *spatial, B * I]`, which is the same convolution.

    Returns:
      `[N, *spatial, channels]` and `[*window, I, O]`.
    """
    batch, channel, *spatial = numbers.lhs_spec
    lhs = _transpose(lhs, (batch, *spatial, channel))
    outgoing, incoming, *window = numbers.rhs_spec
    rhs = _transpose(rhs, (*window, incoming, outgoing))
    if batch_groups > 1:
        examples, *sizes, channels = lhs.shape
        split = lhs.reshape(batch_groups, examples // batch_groups, *sizes, channels)
        last = split.ndim - 1
        order = (*range(1, last), 0, last)
        shape = (examples // batch_groups, *sizes, batch_groups * channels)
        lhs = split.transpose(order).reshape(shape)
    return lhs, rhs


def as_asked(out: jax.Array, numbers: lax.ConvDimensionNumbers) -> jax.Array:
    """`[N, *out, O]` laid out as `numbers.out_spec` says."""
    batch, channel, *spatial = numbers.out_spec
    places = (batch, *spatial, channel)
    return _transpose(out, tuple(places.index(axis) for axis in range(len(places))))


def geometry(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: Padding,
    lhs_dilation: Sequence[int] | None,
    rhs_dilation: Sequence[int] | None,
    groups: int,
) -> Geometry:
    """The sizes of a convolution of `lhs` and `rhs`, both with the channels last.

    Args:
      lhs: inputs `[N, *spatial, G * I]`.
      rhs: kernel `[*window, I, G * O]`.
      window_strides: one for each spatial axis.
      padding: "SAME", "SAME_LOWER", "VALID" or (low, high) for each spatial axis.
      lhs_dilation: of the inputs; 1 if None.
      rhs_dilation: of the kernel; 1 if None.
      groups: G.
    """
    ones = (1,) * (rhs.ndim - 2)
    rhs_dilation = tuple(rhs_dilation or ones)
    if isinstance(padding, str):
        window = zip(rhs.shape[:-2], rhs_dilation, strict=True)
        extent = [(w - 1) * d + 1 for w, d in window]
        padding = lax.padtype_to_pads(lhs.shape[1:-1], extent, window_strides, padding)
    return Geometry(
        lhs.shape,
        rhs.shape,
        tuple(window_strides),
        tuple((int(low), int(high)) for low, high in padding),
        tuple(lhs_dilation or ones),
        rhs_dilation,
        groups,
    )


def numbers_of(lhs: jax.Array, rhs: jax.Array, given: Any) -> lax.ConvDimensionNumbers:
    """`dimension_numbers` of `jax.lax.conv_general_dilated` as indices of axes."""
    return lax.conv_dimension_numbers(lhs.shape, rhs.shape, given)


def _transpose(array: jax.Array, order: tuple[int, ...]) -> jax.Array:
    return array if order == tuple(range(array.ndim)) else array.transpose(order)
