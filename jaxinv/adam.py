"""Adam, written so that float32 keeps its digits and its slope.

Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015 (arXiv
1412.6980), with PyTorch's constants. `optax.adam` divides the moments by `1 - decay^t`,
which in float32 is 2e-5 off in the first steps: five steps of a LeNet end 1e-5 from
PyTorch's, which has these numbers in float64. Here the moments are the corrected ones
from the start, averages whose weights are exact to a rounding: 5e-7.

What no form of it cures: a step is g / |g|, its slope 1 / |g|, and a gradient that is
small beside what it was summed from has few digits. In float32 the slope is exact to
1e-4 but for weights whose gradient is below 1e-5 of the largest; few as they are, they
can be most of the slope.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

DECAY_MEAN, DECAY_SQUARE, EPSILON = 0.9, 0.999, 1e-8

_ROOT = 1e-30
"""Inside the square root, whose derivative at 0, where a ReLU is dead, is infinite.
It moves the root by 1e-15 at most, beside Adam's own 1e-8 outside."""


class AdamState(NamedTuple):
    """What Adam remembers."""

    count: jax.Array
    """`[]` int32, steps made."""
    mean: Any
    """Of the gradients, bias-corrected; like the weights."""
    square: Any
    """Of their squares."""


def adam(learning_rate: float) -> optax.GradientTransformation:
    """Adam with PyTorch's constants, for training that is differentiated through.

    Args:
      learning_rate: of every step.
    """

    def init(weights: Any) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, weights)
        return AdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(grads: Any, state: AdamState, weights: Any = None):
        count = state.count + 1
        mean = _average(state.mean, grads, _newest(DECAY_MEAN, count))
        squares = jax.tree.map(jnp.square, grads)
        square = _average(state.square, squares, _newest(DECAY_SQUARE, count))

        def step(m: jax.Array, v: jax.Array) -> jax.Array:
            return -learning_rate * m / (jnp.sqrt(v + _ROOT) + EPSILON)

        return jax.tree.map(step, mean, square), AdamState(count, mean, square)

    return optax.GradientTransformation(init, update)  # pyright: ignore


def _newest(decay: float, count: jax.Array) -> jax.Array:
    """The newest entry's weight among `count`, `(1 - decay) / (1 - decay^count)`.

    The difference below the line would cancel: 0.999^1 has four digits of 0.001.
    """
    return (decay - 1) / jnp.expm1(count * math.log(decay))


def _average(old: Any, new: Any, weight: jax.Array) -> Any:
    return jax.tree.map(lambda a, b: a + weight.astype(a.dtype) * (b - a), old, new)
