"""What an attacker makes of an update that is encrypted in part.

MaskCrypt's adversary (the plato framework, examples/maskcrypt/maskcrypt_utils.py) puts
zeros for what it cannot read, and later the last value that it could: "zero" and
"previous". An attacker who leaves encrypted numbers out of the match ("masked") reads
no wrong ones; that is the strongest simple one. "mean" is ours.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxinv.errors import InputError
from jaxinv.layers import Dense
from jaxinv.matching import squared
from jaxinv.observation import Observation, require
from jaxinv.options import check_choice
from jaxinv.received import shown_only
from jaxinv.release import gradient
from jaxinv.target import Batch, Params, Target

FORMS = ("masked", "zero", "mean", "previous")
"""Ways to treat encrypted numbers; see `read_as`."""


def read_as(
    observation: Observation, form: str = "masked", *, previous: Any = None
) -> Observation:
    """The observation as one kind of attacker takes it; pure, for jit and vmap.

    Args:
      observation: with `Knowledge.visible`.
      form: what stands for an encrypted number. "masked": nothing, it is left out of
        every match (the observation as it is). "zero": 0. "mean": the mean of what is
        visible in its tensor and round. "previous": its value in `previous`. All but
        the first withhold `visible`, so that every attack matches the whole update.
      previous: an update of the same client from an earlier round, leaves `[rounds,
        ...]`, such as the `update` of an earlier observation, whose own encrypted
        numbers are zeros.

    Raises:
      InputError: the form is unknown, or `previous` is given for another, lacks for
        its own, or does not have the shape of the update.
      KnowledgeError: `visible` is not granted.
    """
    check_choice("form", form, FORMS)
    if (form == "previous") != (previous is not None):
        raise InputError(
            f"previous is {'None' if previous is None else 'given'} and form is "
            f"{form!r}; expected an earlier update for form='previous', and only there"
        )
    visible = require(
        observation, "visible", why="without it no number is known to be encrypted"
    )
    if form == "masked":
        return observation
    update = observation.update
    if form == "previous":
        if jax.tree.map(jnp.shape, previous) != jax.tree.map(jnp.shape, update):
            raise InputError(
                "previous does not have the structure and shapes of the update; "
                "expected leaves [rounds, ...] of the same client"
            )
        filling = previous
    elif form == "mean":
        filling = jax.tree.map(_mean, update, visible)
    else:
        filling = jax.tree.map(jnp.zeros_like, update)
    filled = jax.tree.map(
        lambda shown, leaf, other: jnp.where(shown, leaf, other),
        visible,
        update,
        filling,
    )
    known = dataclasses.replace(observation.known, visible=None)
    return dataclasses.replace(observation, update=filled, known=known)


def read_pixels(dense: Dense, shown: Dense) -> tuple[jax.Array, jax.Array]:
    """The input of a dense layer, a number at a time; for a batch of one.

    `dW[d, r] = db[r] x[d]` holds for every unit r, so that x[d] is known where any unit
    has a plain bias and a plain entry for it: no unit has to be plain in full. By least
    squares over the units that have both; ours.

    Args:
      dense: the layer's gradient, kernel `[D, H]` and bias `[H]`.
      shown: bools like it, True where plain.

    Returns:
      `[D]` inputs, 0 where unknown, and `[D]` bools, which are known.
    """
    assert dense.bias is not None and shown.bias is not None
    bias = jnp.where(shown.bias, dense.bias, 0)
    # Below this a number is the rounding of larger ones that cancelled.
    bias = jnp.where(jnp.abs(bias) > 1e-6 * jnp.abs(bias).max(), bias, 0)
    weight = jnp.where(shown.kernel, bias, 0)
    size = jnp.sum(weight**2, 1)
    inner = jnp.sum(weight * jnp.where(shown.kernel, dense.kernel, 0), 1)
    return inner / jnp.where(size > 0, size, 1), size > 0


def visible_distance(
    target: Target,
    key: jax.Array,
    params: Params,
    update: Any,
    batch: Batch,
    shown: Any,
) -> jax.Array:
    """As `jaxinv.attacks.evidence.gradient_distance`, of what is visible.

    Args:
      target: the model.
      key: for the release, which draws nothing.
      params: what the server sent, one round.
      update: what came back, one round, zeros where it is not visible.
      batch: the guess.
      shown: bool as the update.

    Returns:
      `[]`, 0 for the truth, 1 for a guess no better than a zero gradient.
    """
    guess = shown_only(gradient(target.loss)(key, params, batch), shown)
    total = squared()(update, jax.tree.map(jnp.zeros_like, update))
    return squared()(guess, update) / jnp.maximum(total, jnp.finfo(total.dtype).tiny)


def _mean(leaf: jax.Array, shown: jax.Array) -> jax.Array:
    """`[rounds, 1, ...]`, of what is visible; 0 where nothing is."""
    shown = jnp.broadcast_to(shown, leaf.shape)
    axes = tuple(range(1, leaf.ndim))
    total = jnp.sum(jnp.where(shown, leaf, 0), axes, keepdims=True)
    return total / jnp.maximum(shown.sum(axes, keepdims=True), 1)
