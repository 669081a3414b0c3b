"""The precision of an attack: of its matrix products, or of everything."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn, jaxpr_as_fun, primitives
from jaxinv_kernels.jaxpr import bind, inlined

from jaxinv.errors import InputError, nearest

PRECISIONS = ("float32", "tensorfloat32", "bfloat16", "float64")
"""The first three are of the matrix products, which add up in float32. "float64" is of
everything: what was observed is widened, which takes twice the memory."""

_MANTISSA_BITS = {"tensorfloat32": 10, "bfloat16": 7}


def check_precision(precision: str | None) -> str | None:
    """The argument, if it is None or one of `PRECISIONS`.

    Raises:
      InputError: it is neither.
    """
    if precision is not None and precision not in PRECISIONS:
        raise InputError(
            f"precision is {precision!r}; {nearest(precision, PRECISIONS)}"
        )
    return precision


@contextlib.contextmanager
def numerics(precision: str | None) -> Iterator[None]:
    """Within it JAX traces and runs in this precision; None changes nothing."""
    with contextlib.ExitStack() as stack:
        if precision == "float64":
            stack.enter_context(jax.enable_x64(True))
        elif precision is not None:
            stack.enter_context(jax.default_matmul_precision(precision))
        yield


def rounded(precision: str | None, closed: ClosedJaxpr) -> Callable[..., list[Any]]:
    """The function of a jaxpr, with the products of `precision` also on a CPU.

    A CPU has no matrix products of less than float32, and XLA ignores there that they
    were asked for. So that what they do to an attack can be seen on any machine, their
    operands are rounded as an accelerator rounds them; that is no faster, but slower.

    Args:
      precision: one of `PRECISIONS`, or None.
      closed: all derivatives taken already.
    """
    bits = _MANTISSA_BITS.get(precision or "")
    if bits is None or jax.default_backend() != "cpu":
        return jaxpr_as_fun(closed)

    def apply(eqn: JaxprEqn, inputs: list[Any]) -> Sequence[Any]:
        if eqn.primitive is primitives.dot_general_p:
            inputs = [_round(x, bits) for x in inputs]
        return bind(eqn, inputs)

    return lambda *args: inlined(closed, args, apply)


def _round(x: jax.Array, bits: int) -> jax.Array:
    if x.dtype != jnp.float32:
        return x
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=bits)


def widened(precision: str | None, tree: Any) -> Any:
    """The tree, its floats made float64 where that is the precision."""
    if precision != "float64":
        return tree

    def widen(leaf: Any) -> Any:
        floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return jnp.asarray(leaf, jnp.float64) if floating else leaf

    return jax.tree.map(widen, tree)
