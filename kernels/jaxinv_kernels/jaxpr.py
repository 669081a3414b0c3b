"""Evaluate a jaxpr with some of its equations done in another way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, primitives

Apply = Callable[[JaxprEqn, list[Any]], Sequence[Any]]
"""`(equation, inputs) -> outputs`."""

CALLS = {primitives.jit_p, primitives.call_p, primitives.closed_call_p}
"""Calls that mean no more than what they call."""


def evaluate(
    jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], apply: Apply
) -> list[Any]:
    """The outputs of a jaxpr, each equation done by `apply`.

    Args:
      jaxpr: what to evaluate, as `jax.core.eval_jaxpr` does.
      consts: one for each of its constants.
      args: one for each of its inputs.
      apply: `bind` does what the equation says.
    """
    env: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    env |= zip(jaxpr.invars, args, strict=True)

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else env[atom]

    for eqn in jaxpr.eqns:
        info = eqn.source_info
        names = source_info_util.current_name_stack() + info.name_stack
        # An error, or a profile, then names the user's line and not this one.
        with (
            source_info_util.user_context(info.traceback, name_stack=names),
            eqn.ctx.manager,
        ):
            out = apply(eqn, [read(atom) for atom in eqn.invars])
        env |= zip(eqn.outvars, out, strict=True)
    return [read(atom) for atom in jaxpr.outvars]


def bind(
    eqn: JaxprEqn, inputs: list[Any], params: dict[str, Any] | None = None
) -> Sequence[Any]:
    """The outputs of an equation as it is, or with other parameters."""
    primitive = eqn.primitive
    chosen = eqn.params if params is None else params
    out = primitive.bind(*inputs, **primitive.get_bind_params(chosen))
    return out if primitive.multiple_results else [out]


def inlined(closed: ClosedJaxpr, args: Sequence[Any], apply: Apply = bind) -> list[Any]:
    """The outputs of a jaxpr with its calls opened, to any depth.

    Args:
      closed: what to evaluate.
      args: one for each of its inputs.
      apply: does every equation that is no call.
    """

    def open_calls(eqn: JaxprEqn, inputs: list[Any]) -> Sequence[Any]:
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        if eqn.primitive in CALLS and isinstance(inner, ClosedJaxpr):
            return inlined(inner, inputs, apply)
        return apply(eqn, inputs)

    return evaluate(closed.jaxpr, closed.consts, args, open_calls)
