"""Replace the slow operations of a function without touching its source.

The function is traced to a jaxpr, and the jaxpr is evaluated one equation after the
other, as `jax.core.eval_jaxpr` does, but for the equations that have a fast form.
Equations that hold jaxprs of their own (jit, scan, cond, while, checkpoint, custom
rules) are entered only if something in them is slow. Whatever this file does not
know is bound unchanged: it stays slow, and right.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import linear_util
from jax.extend.core import (
    ClosedJaxpr,
    Jaxpr,
    JaxprEqn,
    jaxprs_in_params,
    primitives,
)

from jaxinv_kernels.jaxpr import bind, evaluate
from jaxinv_kernels.rewrite.operations import fast_form

Memo = dict[int, tuple[ClosedJaxpr, ClosedJaxpr]]
"""From the id of a nested jaxpr to itself (so that the id stays taken) and its fast
form: a block that is called ten times is compiled once, as before."""

# Their jaxpr is evaluated in place.
INLINED = {primitives.call_p, primitives.closed_call_p}
# Their jaxprs are closed and stand in the parameters, where others take their place.
REPLACED = {
    primitives.jit_p,
    primitives.scan_p,
    primitives.while_p,
    primitives.cond_p,
}
CUSTOM = {primitives.custom_jvp_call_p, primitives.custom_vjp_call_p}
ENTERED = INLINED | REPLACED | CUSTOM | {primitives.remat_p}


def rewrite(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, fast under second derivatives and vmap.

    Convolutions and pools, at any depth, become the forms of `jaxinv_kernels.conv` and
    `jaxinv_kernels.pool`. Apply it before differentiation: what it meets then are the
    operations of the forward pass. A custom derivative stays the rule that its author
    gave; where the function under the rule is slow, both are rewritten.

    Args:
      fn: a pure function, for example a loss `(params, batch) -> scalar`. Leaves of
        its arguments that are no `jax.Array` (a flag, a string, a NumPy array) reach
        it as they are. It is traced at each call, to look; if nothing in it is slow it
        then runs as it is.

    Returns:
      A function of the same arguments and results, up to rounding. Where entries of a
      maximum pool tie, the first has the derivative.
    """

    @functools.wraps(fn)
    def rewritten(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = jax.tree.flatten((args, kwargs))
        arrays, join = _split(leaves)
        finish: list[Callable[[Sequence[Any]], Any]] = []

        def flat(*arrays: jax.Array) -> list[jax.Array]:
            args, kwargs = jax.tree.unflatten(tree, join(arrays))
            out_leaves, out_tree = jax.tree.flatten(fn(*args, **kwargs))
            out, join_out = _split(out_leaves)
            finish.append(lambda out: jax.tree.unflatten(out_tree, join_out(out)))
            return out

        closed = jax.make_jaxpr(flat)(*arrays)
        if not contains_slow(closed):
            return fn(*args, **kwargs)
        return finish[-1](_evaluate(closed.jaxpr, closed.consts, arrays, {}))

    return rewritten


def contains_slow(jaxpr: Jaxpr | ClosedJaxpr) -> bool:
    """Whether `rewrite` would replace an equation of a jaxpr, at any depth."""
    eqns = jaxpr.eqns
    return any(fast_form(e) is not None or _contains_slow_inside(e) for e in eqns)


def _contains_slow_inside(eqn: JaxprEqn) -> bool:
    return eqn.primitive in ENTERED and any(
        map(contains_slow, jaxprs_in_params(eqn.params))
    )


def _split(leaves: Sequence[Any]) -> tuple[list[Any], Callable[..., list[Any]]]:
    """The arrays among leaves, and what puts others in their place."""
    is_array = [isinstance(leaf, jax.Array) for leaf in leaves]
    arrays = [leaf for leaf, yes in zip(leaves, is_array, strict=True) if yes]
    # Only the rest is kept, so that no tracer outlives its trace.
    rest = [None if yes else x for x, yes in zip(leaves, is_array, strict=True)]

    def join(arrays: Sequence[Any]) -> list[Any]:
        fresh = iter(arrays)
        return [
            next(fresh) if yes else x for x, yes in zip(rest, is_array, strict=True)
        ]

    return arrays, join


def _evaluate(
    jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], memo: Memo
) -> list[Any]:
    return evaluate(jaxpr, consts, args, lambda eqn, x: _apply(eqn, x, memo))


def _apply(eqn: JaxprEqn, inputs: list[Any], memo: Memo) -> Sequence[Any]:
    fast = fast_form(eqn)
    if fast is not None:
        return [fast(*inputs)]
    if not _contains_slow_inside(eqn):
        return bind(eqn, inputs)
    if eqn.primitive in INLINED:
        (inner,) = jaxprs_in_params(eqn.params)
        consts = getattr(eqn.params["call_jaxpr"], "consts", ())
        return _evaluate(inner, consts, inputs, memo)
    if eqn.primitive in CUSTOM:
        return _bind_custom(eqn, inputs)
    if eqn.primitive is primitives.remat_p:
        return _bind_remat(eqn, inputs, memo)
    params = {name: _replace(value, memo) for name, value in eqn.params.items()}
    return bind(eqn, inputs, params)


def _bind_custom(eqn: JaxprEqn, inputs: list[Any]) -> Sequence[Any]:
    """A custom derivative: the function and its rules, each rewritten by itself.

    The rules are flat functions of arrays, flags and symbolic zeros, and `rewrite`
    hands on whatever is no array, so their protocol stays JAX's own affair.
    """
    params = eqn.primitive.get_bind_params(eqn.params)
    if "subfuns" not in params:
        return bind(eqn, inputs)
    params["subfuns"] = tuple(
        linear_util.wrap_init(rewrite(f.call_wrapped), debug_info=f.debug_info)
        for f in params["subfuns"]
    )
    return eqn.primitive.bind(*inputs, **params)


def _bind_remat(eqn: JaxprEqn, inputs: list[Any], memo: Memo) -> Sequence[Any]:
    params = dict(eqn.params)
    jaxpr = params.pop("jaxpr")
    # Set by differentiation, which comes after this or has already been.
    params.pop("differentiated", None)
    if not params.keys() <= {"prevent_cse", "policy"}:
        return bind(eqn, inputs)
    # Not a new jaxpr in the parameters: it may hold no constants, and only
    # `jax.checkpoint` turns those into inputs.
    return jax.checkpoint(lambda *args: _evaluate(jaxpr, (), args, memo), **params)(
        *inputs
    )


def _replace(param: Any, memo: Memo) -> Any:
    """A parameter of an equation with every closed jaxpr in it rewritten."""
    if isinstance(param, tuple) and all(isinstance(x, ClosedJaxpr) for x in param):
        return tuple(_replace(x, memo) for x in param)
    if not isinstance(param, ClosedJaxpr) or not contains_slow(param):
        return param
    if id(param) not in memo:
        fast = jax.make_jaxpr(
            lambda *args: _evaluate(param.jaxpr, param.consts, args, memo)
        )(*param.in_avals)
        # A carry of a loop, for one, must keep its type.
        types = (param.in_avals, param.out_avals)
        same = (fast.in_avals, fast.out_avals) == types
        memo[id(param)] = (param, fast if same else param)
    return memo[id(param)][1]
