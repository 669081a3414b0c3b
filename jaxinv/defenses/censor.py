"""CENSOR: a random update orthogonal to the gradient, the one of lowest loss.

Zhang et al., NDSS 2025, arXiv 2501.15718, eq. 12: every tensor of the gradient is
replaced by a random one of equal norm at a right angle to it; of some trials the one is
sent that leads to the lowest loss on the client's own batch (a cold posterior: the
limit of a temperature of 0). The tables of the paper were not available to us.

The authors' released code differs in two points that weaken it, both kept here under
their own names for comparison: `unit_projection` subtracts the gradient as if its norm
were 1, so the result is orthogonal for that norm alone; `may_send_original` sends the
gradient itself where no trial has a lower loss than the weights that were received.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxinv.defenses.checks import check_strength
from jaxinv.local_training import LocalTraining
from jaxinv.options import check_choice, check_positive
from jaxinv.release import Release, trained
from jaxinv.target import LossFn, Params, Variables

SELECTIONS = ("loss", "curvature")


class Trials(NamedTuple):
    """What CENSOR drew, and chose."""

    update: Any
    """What is sent, structured as the gradient."""
    criterion: jax.Array
    """`[trials]`, lower is better: the loss, or the curvature."""
    chosen: jax.Array
    """`[]` int, the trial that is sent; -1 where the gradient itself is."""


@dataclass(frozen=True)
class Censor:
    """The release of `censor`."""

    release: Release
    """What the client would send."""
    loss: LossFn
    """By which the trials are judged."""
    trials: int
    step: float
    selection: str
    unit_projection: bool
    may_send_original: bool
    at_once: int

    @property
    def local(self) -> LocalTraining | None:
        """How the client trains; None for a release without local training."""
        return getattr(self.release, "local", None)

    def __call__(self, key: jax.Array, params: Params, batch: Any) -> Any:
        """The update of the best trial, as `trained(params)`."""
        return self.drawn(key, params, batch).update

    def drawn(self, key: jax.Array, params: Params, batch: Any) -> Trials:
        """The update with what was tried."""
        own, later = jax.random.split(key)
        gradient = self.release(own, params, batch)
        keys = jax.random.split(later, self.trials)
        judge = self._judge(params, jax.lax.stop_gradient(batch))

        def candidate(key: jax.Array) -> Any:
            return replaced(key, gradient, unit_projection=self.unit_projection)

        # Candidates are drawn again from their keys: all of them need not fit. A choice
        # has no derivative, so none is carried through what it rests on.
        found = jax.lax.map(
            lambda k: judge(jax.lax.stop_gradient(candidate(k))),
            keys,
            batch_size=self.at_once,
        )
        found = jnp.where(jnp.isnan(found), jnp.inf, found)
        chosen = jnp.argmin(found)
        update = candidate(keys[chosen])
        if self.may_send_original:
            better = found[chosen] < judge(jax.tree.map(jnp.zeros_like, gradient))
            update = jax.tree.map(
                lambda new, old: jnp.where(better, new, old), update, gradient
            )
            chosen = jnp.where(better, chosen, -1)
        return Trials(update, found, chosen)

    def _judge(self, params: Params, batch: Any) -> Callable[[Any], jax.Array]:
        weights = trained(params)

        def loss(weights: Any) -> jax.Array:
            if isinstance(params, Variables):
                return self.loss(Variables(weights, params.state), batch)
            return self.loss(weights, batch)

        if self.selection == "curvature":
            # <g, o> is 0, so the loss after a small step differs by o'Ho alone: which
            # has all its digits where the difference of two losses has none.
            def curvature(update: Any) -> jax.Array:
                turned = jax.jvp(jax.grad(loss), (weights,), (update,))[1]
                pairs = zip(*map(jax.tree.leaves, (update, turned)), strict=True)
                return sum((jnp.vdot(a, b) for a, b in pairs), start=jnp.zeros(()))

            return curvature
        # A delta of weights points the way that is gone, a gradient the other way.
        way = self.step if self.local is not None else -self.step

        def after(update: Any) -> jax.Array:
            return loss(jax.tree.map(lambda w, o: w + way * o, weights, update))

        return after


def censor(
    release: Release,
    loss: LossFn,
    *,
    trials: int = 20,
    step: float = 1e-4,
    selection: str = "loss",
    unit_projection: bool = False,
    may_send_original: bool = False,
    at_once: int = 4,
) -> Censor:
    """CENSOR on a release.

    Tensors of one number have no orthogonal complement, those that are all 0 no
    direction: both are sent as zeros.

    Args:
      release: what the client would send.
      loss: `(params, batch) -> scalar`, by which trials are judged, in evaluation mode.
      trials: how many are drawn.
      step: how far along a trial the loss is taken (published: 1e-4).
      selection: "loss" (published), or "curvature": the second derivative along the
        trial, which orders the trials as the loss does for a small step and does not
        drown in its rounding (ours).
      unit_projection: the released code's first difference.
      may_send_original: the released code's second difference; not with "curvature".
      at_once: trials judged in one batch, which bounds the memory.

    Raises:
      InputError: an argument is out of range.
    """
    check_positive("trials", trials)
    check_positive("at_once", at_once)
    check_strength("step", step)
    check_choice("selection", selection, SELECTIONS)
    if may_send_original:
        check_choice("selection", selection, ("loss",))
    return Censor(
        release,
        loss,
        trials,
        step,
        selection,
        unit_projection,
        may_send_original,
        at_once,
    )


def replaced(key: jax.Array, gradient: Any, *, unit_projection: bool = False) -> Any:
    """A random update with each tensor at a right angle to the gradient's, as long.

    Args:
      key: of the draw.
      gradient: a tree of arrays.
      unit_projection: subtract `<r, g> g / |g|` from the unit vector r instead of
        `<r, g> g / |g|^2`, as the released code does.
    """
    leaves, structure = jax.tree.flatten(gradient)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        _orthogonal(k, leaf, unit_projection)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)


def _orthogonal(key: jax.Array, leaf: jax.Array, unit_projection: bool) -> jax.Array:
    if leaf.size < 2:
        return jnp.zeros_like(leaf)
    # In units of the largest entry, so that squares stay in range.
    largest = jnp.max(jnp.abs(leaf))
    scaled = leaf / jnp.where(largest > 0, largest, 1.0)
    size = jnp.sqrt(jnp.sum(scaled**2))
    along = scaled / jnp.where(largest > 0, size, 1.0)
    random = jax.random.normal(key, leaf.shape, leaf.dtype)
    random /= jnp.sqrt(jnp.sum(random**2))
    if unit_projection:
        random -= jnp.sum(random * along) * along * (size * largest)
    else:
        for _ in range(2):  # once more, for what rounding left
            random -= jnp.sum(random * along) * along
    sent = random * (size / jnp.sqrt(jnp.sum(random**2))) * largest
    return jnp.where(largest > 0, sent, jnp.zeros_like(leaf))
