"""Which equation of a jaxpr has a fast form, and what it is.

The equations are those that a forward pass emits: convolution and pooling. The two
that the derivative of a maximum pool emits are here as well, for a loss that takes
a gradient itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn, primitives

from jaxinv_kernels.conv import conv_general_dilated
from jaxinv_kernels.pool import max_pool
from jaxinv_kernels.windows import windows

Operation = Callable[..., jax.Array]

MOST_SLICES = 256
"""A longer window stays as it is: one slice for each entry, and compilation grows."""


def fast_form(eqn: JaxprEqn) -> Operation | None:
    """The fast form of an equation of one result.

    Args:
      eqn: any equation.

    Returns:
      A function of the equation's inputs that gives its result, up to rounding; None
      if the equation stays as it is.
    """
    rule = RULES.get(eqn.primitive)
    avals: list[Any] = [v.aval for v in eqn.invars]
    if rule is None or any(aval.dtype not in DTYPES for aval in avals):
        return None
    # Under an explicit mesh a reshape asks how its result is to be sharded.
    if any(axis is not None for aval in avals for axis in aval.sharding.spec):
        return None
    return rule(eqn)


# Integers have no derivative, complex numbers no maximum, and eight bits no infinity.
DTYPES = [jnp.dtype(name) for name in "bfloat16 float16 float32 float64".split()]


def _convolution(eqn: JaxprEqn) -> Operation | None:
    params = dict(eqn.params)
    known = {name: params.pop(name) for name in CONVOLUTION if name in params}
    # What is left is the sharding of the result, or newer than this file.
    if any(value is not None for value in params.values()):
        return None
    return partial(conv_general_dilated, **known)


CONVOLUTION = (
    "window_strides padding lhs_dilation rhs_dilation dimension_numbers "
    "feature_group_count batch_group_count precision preferred_element_type"
).split()


def _sum(eqn: JaxprEqn) -> Operation | None:
    return _pooling(eqn, lambda stacked: stacked.sum(-2), 0.0)


def _max(eqn: JaxprEqn) -> Operation | None:
    return _pooling(eqn, _first_largest, -math.inf)


def _min(eqn: JaxprEqn) -> Operation | None:
    def first_smallest(stacked: jax.Array) -> jax.Array:
        return -_first_largest(-stacked)

    return _pooling(eqn, first_smallest, math.inf)


def _first_largest(stacked: jax.Array) -> jax.Array:
    """Largest entry of each window `[..., T, C]`, to `[..., C]`."""
    *lead, taps, channels = stacked.shape
    # `max_pool` holds the one selection that is safe under second derivatives. To it
    # each window is a row of T entries and one window wide.
    rows = stacked.reshape(math.prod(lead), taps, channels)
    return max_pool(rows, (taps,)).reshape(*lead, channels)


def _pooling(eqn: JaxprEqn, reduce: Operation, fill: float) -> Operation | None:
    """Reduction over windows along any axes of the first input."""
    params = eqn.params
    rank = len(params["window_dimensions"])
    # `select_and_scatter_add` has no dilation.
    ones = (1,) * rank
    base = params.get("base_dilation", ones)
    along = list(
        zip(
            params["window_dimensions"],
            params["window_strides"],
            params["padding"],
            params.get("window_dilation", ones),
            strict=True,
        )
    )
    plain = [
        how[:3] == (1, 1, (0, 0)) and d == 1 for how, d in zip(along, base, strict=True)
    ]
    if all(plain):
        return lambda inputs: inputs
    first, last = plain.index(False), rank - plain[::-1].index(False)
    window, strides, padding, dilation = zip(*along[first:last], strict=True)

    def pool(inputs: jax.Array) -> jax.Array:
        inputs = lax.pad(
            inputs, jnp.asarray(fill, inputs.dtype), [(0, 0, d - 1) for d in base]
        )
        lead, trail = inputs.shape[:first], inputs.shape[last:]
        size = inputs.shape[first:last]
        whole = all(
            s + low + high == w
            for s, (low, high), w in zip(size, padding, window, strict=True)
        )
        stacked = windows(
            inputs.reshape(math.prod(lead), *size, math.prod(trail)),
            window,
            # One window alone has no next one, and as a tile it needs no slices.
            window if whole else strides,
            padding,
            dilation=dilation,
            fill=fill,
        )
        reduced = reduce(stacked)
        return reduced.reshape(*lead, *reduced.shape[1:-1], *trail)

    shape = eqn.outvars[0].aval.shape[first:last]  # pyright: ignore
    if sum(window) > MOST_SLICES and any(n != 1 for n in shape):
        return None
    return pool


def _generic(eqn: JaxprEqn) -> Operation | None:
    """`reduce_window` with a body and a start of its own."""
    body = eqn.params["jaxpr"]
    if len(eqn.invars) != 2 or len(body.eqns) != 1:
        return None
    (step,) = body.eqns
    if set(step.invars) != set(body.invars) or step.outvars != body.outvars:
        return None
    rules = {
        primitives.add_p: (_sum, jnp.add),
        primitives.max_p: (_max, jnp.maximum),
        primitives.min_p: (_min, jnp.minimum),
    }
    if step.primitive not in rules:
        return None
    rule, combine = rules[step.primitive]
    pool = rule(eqn)
    return pool and (lambda inputs, init: combine(pool(inputs), init))


def _selection(eqn: JaxprEqn) -> Operation | None:
    rules = {primitives.ge_p: _max, primitives.le_p: _min}
    rule = rules.get(eqn.params["select_prim"])
    return rule and rule(eqn)


def _transposed_selection(eqn: JaxprEqn) -> Operation | None:
    """`select_and_scatter_add`, the gradient of a maximum pool."""
    pool = _selection(eqn)
    return pool and (lambda source, inputs: jax.vjp(pool, inputs)[1](source)[0])


def _tangent_selection(eqn: JaxprEqn) -> Operation | None:
    """`select_and_gather_add`, the tangent of a maximum pool."""
    pool = _selection(eqn)
    return pool and (lambda tangent, inputs: jax.jvp(pool, (inputs,), (tangent,))[1])


RULES: dict[Any, Callable[[JaxprEqn], Operation | None]] = {
    primitives.conv_general_dilated_p: _convolution,
    primitives.reduce_window_sum_p: _sum,
    primitives.reduce_window_max_p: _max,
    primitives.reduce_window_min_p: _min,
    primitives.reduce_window_p: _generic,
    primitives.select_and_scatter_add_p: _transposed_selection,
    primitives.select_and_gather_add_p: _tangent_selection,
}
