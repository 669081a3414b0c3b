"""Releases: what a client computes from its data and sends.

A release is a pure function `(key, params, batch) -> update`. The attack calls the
same function on its guess, so whatever the client does (several local steps, a
defence) is attacked by writing it as one. `key` feeds releases that draw; the
gradient draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jaxinv_kernels.rewrite import rewrite

from jaxinv.factored import factored_gradient
from jaxinv.second_order import gradient_map
from jaxinv.target import LossFn, Params, Variables

Release = Callable[[jax.Array, Params, Any], Any]
"""`(key, params, batch) -> update`, the update with the structure of the params."""


def trained(params: Params) -> Any:
    """The part of what the server sent that training changes, and updates mirror."""
    return params.params if isinstance(params, Variables) else params


@dataclass(frozen=True)
class Gradient:
    """The release of `gradient`."""

    loss: LossFn
    """`(params, batch) -> scalar`, mean over examples."""
    route: str = "forward"
    """How the gradient is differentiated; see `jaxinv.second_order.gradient_map`."""

    def __call__(self, key: jax.Array, params: Params, batch: Any) -> Any:
        """The gradient with respect to `trained(params)`."""
        del key  # deterministic
        return self._of(gradient_map, params, batch)

    def factored(self, params: Params, batch: Any) -> Any:
        """The same with `jaxinv.factored.Factored` leaves where they cost less."""
        return self._of(factored_gradient, params, batch)

    def _of(self, differentiate: Callable, params: Params, batch: Any) -> Any:
        if not isinstance(params, Variables):
            return differentiate(self.loss, route=self.route)(params, batch)

        def loss(trained: Any, rest: Any) -> jax.Array:
            state, batch = rest
            return self.loss(Variables(trained, state), batch)

        slope = differentiate(loss, route=self.route)
        return slope(params.params, (params.state, batch))


def gradient(
    loss: LossFn, *, route: str = "forward", rewritten: bool = True
) -> Gradient:
    """One gradient of the loss on the whole batch (FedSGD).

    Args:
      loss: `(params, batch) -> scalar`, mean over examples.
      route: how an attack differentiates the gradient, "forward" or "reverse" over
        reverse; see `jaxinv.second_order.gradient_map`.
      rewritten: whether the loss's convolutions and pools are replaced by forms whose
        derivatives and batches are fast (`jaxinv_kernels.rewrite`); the results agree
        up to rounding.

    Returns:
      A release whose update is the gradient with respect to `trained(params)`.
    """
    return Gradient(rewrite(loss) if rewritten else loss, route)
