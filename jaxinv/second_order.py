"""The gradient as a map that is cheap to differentiate: forward over reverse.

An attack needs, of the update `g(batch) = grad_params loss(params, batch)`, the
pullback of a direction v: the gradient by the batch of `<g(batch), v>`. By the symmetry
of second derivatives that is the change of `grad_batch loss` as the parameters move
along v. So the map `params -> (grad_params, grad_batch)` is linearised once, its first
part is the update, and v pushed forward through it gives the pullback: no second
reverse pass, and for a dense layer or a convolution 7 matrix products in all (value,
two for the gradient, four tangents). Source: Pearlmutter, "Fast exact multiplication
by the Hessian", Neural Computation 6 (1994), https://doi.org/10.1162/neco.1994.6.1.147,
here with the mixed derivative in the place of the Hessian.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params
from jax.tree_util import Partial

from jaxinv.errors import InputError, SlowPathWarning
from jaxinv.target import LossFn

ROUTES = ("forward", "reverse")
"""How the gradient is differentiated: forward over reverse, or reverse over reverse."""


def gradient_map(loss: LossFn, *, route: str = "forward") -> Callable[[Any, Any], Any]:
    """`(params, batch) -> gradient`, like `jax.grad(loss)`, with a fast pullback.

    Args:
      loss: `(params, batch) -> scalar`; `params` any tree of float arrays, `batch` any
        tree of arrays.
      route: "forward" differentiates as described above the module. It gives the
        result a custom reverse rule, so it can be differentiated in reverse, as often
        as one likes, but not by `jax.jvp`. Where an operation of the loss refuses
        forward mode (a `custom_vjp`), it warns and takes the other. "reverse" leaves
        `jax.grad` as it is, for both modes.

    Raises:
      InputError: the route is not one of `ROUTES`.
    """
    if route not in ROUTES:
        raise InputError(f"route is {route!r}; expected one of {', '.join(ROUTES)}")
    if route == "reverse":
        return jax.grad(loss)

    def gradient(params: Any, batch: Any) -> Any:
        # What the loss closes over may be differentiated too, so it becomes an input.
        pure, consts = jax.closure_convert(loss, params, batch)
        leaves, structure = jax.tree.flatten((batch, consts))
        movable = [jnp.issubdtype(jnp.result_type(x), jnp.inexact) for x in leaves]

        def call(params: Any, moving: list[Any], fixed: list[Any]) -> jax.Array:
            a, b = iter(moving), iter(fixed)
            both = [next(a) if m else next(b) for m in movable]
            batch, consts = jax.tree.unflatten(structure, both)
            return pure(params, batch, *consts)

        moving = [x for x, m in zip(leaves, movable, strict=True) if m]
        fixed = [x for x, m in zip(leaves, movable, strict=True) if not m]
        return _pushed(call)(params, moving, fixed)

    return gradient


def _pushed(call: Callable[[Any, Any, Any], jax.Array]) -> Callable:
    """The gradient of `call` by its first argument, with the rule above."""

    @jax.custom_vjp
    def gradient(params: Any, moving: Any, fixed: Any) -> Any:
        return jax.grad(call)(params, moving, fixed)

    def forward(params: Any, moving: Any, fixed: Any):
        def slopes(params: Any):
            return jax.grad(call, (0, 1))(params, moving, fixed)

        (update, _), push = jax.linearize(slopes, params)
        if not _refused(push, params):
            return update, Partial(_call, push)
        update, pull = jax.vjp(lambda p, m: jax.grad(call)(p, m, fixed), params, moving)
        warnings.warn(
            "the loss has an operation with a custom_vjp, which refuses forward mode: "
            "its gradient is differentiated in reverse, which is slower",
            SlowPathWarning,
            stacklevel=2,
        )
        return update, Partial(_call, pull)

    def backward(pullback: Any, direction: Any):
        # Of the parameters the same push gives the Hessian-vector product.
        params, moving = pullback(direction)
        return params, moving, None

    gradient.defvjp(forward, backward)
    return gradient


def _call(linear: Any, direction: Any) -> Any:
    return linear(direction)


def _refused(push: Any, params: Any) -> bool:
    """Whether what was linearised cannot be pushed forward, only transposed.

    JAX leaves an equation of this name where a function has a rule for reverse mode
    alone, and raises when, at last, it is to be run.
    """
    return _contains(jax.make_jaxpr(push)(params).jaxpr, "custom_lin")


def _contains(jaxpr: Any, name: str) -> bool:
    return any(
        eqn.primitive.name == name
        or any(_contains(inner, name) for inner in jaxprs_in_params(eqn.params))
        for eqn in jaxpr.eqns
    )
