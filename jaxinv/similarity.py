"""The cosine between two updates, at any scale of either.

Squares of entries below 1e-19 vanish in float32 and those above 1e19 overflow. Dividing
both updates by their largest entries first would cure it, at two to three times the
cost of the three sums themselves. So on a CPU the sums are taken as they are, and again
of divided entries where the norms show that they have to be. On an accelerator, where
a branch makes the host wait and dividing is free beside the reading, entries are always
divided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero

from jaxinv.factored import Factored

Sums = tuple[jax.Array, jax.Array, jax.Array]
"""`<g, u>`, `|g|^2` and `|u|^2`, scalars."""


def cosine_similarity(
    weights: Sequence[jax.Array], guess: Sequence[Any], observed: Sequence[jax.Array]
) -> jax.Array:
    """`sum w g u / sqrt(sum w g^2 sum w u^2)`, in [-1, 1]; 0 for an update of zeros.

    Args:
      weights: a scalar for each leaf, at least 0; constants to the derivative.
      guess: leaves, arrays or `Factored`.
      observed: leaves, arrays of the same shapes.

    Returns:
      A scalar, differentiable in both updates to any order.
    """
    weights = lax.stop_gradient(list(weights))
    scales = _scale(guess), _scale(observed)
    dense, rest = [], []
    for leaf in zip(weights, guess, observed, strict=True):
        (rest if isinstance(leaf[1], Factored) else dense).append(leaf)
    sums = [jnp.zeros(())] * 3
    if dense:
        w, g, u = (list(part) for part in zip(*dense, strict=True))
        sums = list(_dense_sums(g, u, (w, *scales)))
    for weight, g, u in rest:
        g, u = g.over(scales[0]), u / scales[1]
        for i, new in enumerate((g.inner(u), g.norm2(), jnp.sum(u * u))):
            sums[i] += weight * new
    inner, *norms2 = sums
    # A zero update has similarity 0, with a finite derivative.
    for norm2 in norms2:
        inner = inner / jnp.sqrt(jnp.where(norm2 > 0, norm2, 1.0))
    return inner


def largest_entry(leaves: Sequence[Any]) -> jax.Array:
    """`[]`, the largest absolute entry or about that, a constant; 1 for zeros."""
    peaks = [
        leaf.peak()
        if isinstance(leaf, Factored)
        else lax.stop_gradient(jnp.max(jnp.abs(leaf), initial=0.0))
        for leaf in leaves
    ]
    peak = jnp.stack(peaks).max()
    return jnp.where(peak >= float(jnp.finfo(peak.dtype).tiny), peak, 1.0)


def _scale(leaves: Sequence[Any]) -> jax.Array:
    """What to divide by so that squares stay in range: 1 where they do already.

    The similarity does not depend on it, so that it is a constant to the derivative.
    """
    if jax.default_backend() != "cpu":
        return largest_entry(leaves)
    factored = [leaf for leaf in leaves if isinstance(leaf, Factored)]
    dense = [leaf for leaf in leaves if not isinstance(leaf, Factored)]
    norm2 = sum(
        [leaf.norm2() for leaf in factored] + [jnp.vdot(x, x) for x in dense],
        start=jnp.zeros(()),
    )
    norm2 = lax.stop_gradient(norm2)
    limits = jnp.finfo(norm2.dtype)
    # Entries that make up a norm inside have squares with room on both sides.
    low, high = limits.tiny / limits.eps**2, limits.max * limits.eps**2
    fine = (norm2 >= low) & (norm2 <= high)
    others = [leaf.peak() for leaf in factored]

    leaves = lax.stop_gradient(dense + others)
    dtype = norm2.dtype
    return _unless(fine, lambda leaves: jnp.ones((), dtype), largest_entry, leaves)


@jax.custom_jvp
def _dense_sums(
    guess: list[jax.Array], observed: list[jax.Array], constants: Any
) -> Sums:
    """The weighted sums of both over their scales; constants are weights and scales.

    The rule below is what differentiation would find, without the branch.
    """

    def plain(guess: Any, observed: Any, constants: Any) -> Sums:
        weights, *_ = constants
        return (
            _dots(weights, guess, observed),
            _dots(weights, guess, guess),
            _dots(weights, observed, observed),
        )

    def divided(guess: Any, observed: Any, constants: Any) -> Sums:
        _, first, second = constants
        return plain(_over(guess, first), _over(observed, second), constants)

    if jax.default_backend() != "cpu":
        return divided(guess, observed, constants)
    _, first, second = constants
    in_range = (first == 1) & (second == 1)
    return _unless(in_range, plain, divided, guess, observed, constants)


def _dense_sums_jvp(primals: Any, tangents: Any) -> tuple[Sums, Sums]:
    sums = _dense_sums(*primals)
    weights, *scales = primals[2]
    guess, observed = map(_over, primals[:2], scales)
    dguess, dobserved = map(_over, tangents[:2], scales)
    return sums, (
        _dots(weights, dguess, observed) + _dots(weights, guess, dobserved),
        2 * _dots(weights, guess, dguess),
        2 * _dots(weights, observed, dobserved),
    )


_dense_sums.defjvp(_dense_sums_jvp, symbolic_zeros=True)


def _over(leaves: Any, scale: jax.Array) -> Any:
    by = 1 / scale
    return [leaf if _is_zero(leaf) else leaf * by for leaf in leaves]


def _dots(weights: Any, a: Any, b: Any) -> jax.Array:
    # A CPU's library has a fast inner product; elsewhere a sum takes in what its
    # factors are computed from.
    dot = jnp.vdot if jax.default_backend() == "cpu" else lambda x, y: jnp.sum(x * y)
    terms = [
        w * dot(x, y)
        for w, x, y in zip(weights, a, b, strict=True)
        if not (_is_zero(x) or _is_zero(y))
    ]
    return sum(terms, start=jnp.zeros(()))


def _is_zero(x: Any) -> bool:
    """Whether it is a tangent that nothing flows through."""
    return isinstance(x, SymbolicZero)


def _unless(fine: jax.Array, usual: Callable, rescue: Callable, *args: Any) -> Any:
    """`usual(*args)` where fine, else `rescue(*args)`; in a batch, where all are.

    `lax.cond` alone computes both for every element of a batch. Not differentiable. The
    functions may close over no array: JAX 0.10 loses such constants when it compiles.
    """

    @custom_vmap
    def chosen(fine, args):
        return lax.cond(fine, usual, rescue, *args)

    @chosen.def_vmap
    def of_batch(axis_size, batched, fine, args):
        axes = jax.tree.map(lambda b: 0 if b else None, batched[1])

        def each(run: Callable) -> Callable:
            return lambda *args: jax.vmap(
                run, in_axes=axes, out_axes=0, axis_size=axis_size
            )(*args)

        out = _unless(jnp.all(fine), each(usual), each(rescue), *args)
        return out, jax.tree.map(lambda _: True, out)

    return chosen(fine, args)
