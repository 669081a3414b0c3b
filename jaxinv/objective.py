"""Objectives: the match between releases plus the priors, over all rounds seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxinv.errors import InputError
from jaxinv.matching import MatchFn, ProductMatch
from jaxinv.observation import Observation
from jaxinv.priors import PriorFn, no_prior
from jaxinv.received import shown_only
from jaxinv.release import Gradient, Release
from jaxinv.rounds import in_round, round_axes, round_weights, unwrapped


class Terms(NamedTuple):
    """What an objective is made of."""

    match: jax.Array
    """`[]`, the mean over rounds; the evidence by which restarts are judged."""
    prior: jax.Array
    """`[]`."""


ObjectiveFn = Callable[[jax.Array, Observation, Any], tuple[jax.Array, Terms]]
"""`(key, observation, batch) -> (scalar, terms)`; the key is consumed."""


def objective(
    release: Release,
    match: MatchFn,
    prior: PriorFn = no_prior,
    *,
    match_weight: float | jax.Array = 1.0,
    trim: float = 0.0,
) -> ObjectiveFn:
    """`match_weight * mean over rounds of match(release(batch), update) + prior`.

    The mean is that of the rounds' weights. What is `jaxinv.rounds.PerRound` in the
    batch reaches the release as it was in that round. Where the observation says which
    numbers of the update are `visible`, both updates count there alone: a cosine is
    that of the visible parts, and what stands elsewhere is never read.

    Args:
      release: what the attacker believes the client did.
      match: distance of two updates. Where it reads the guess's update by inner
        products alone, a gradient is not formed where its factors do
        (`jaxinv.factored`).
      prior: weighted already (`jaxinv.priors.weighted`).
      match_weight: factor of the match in the sum; the terms report it without.
      trim: share of the rounds, rounded down, whose match is worst at the moment and
        that are left out, for rounds that are corrupt. Source: TGIAs-RO (arXiv
        2306.07883), robust statistics over temporal gradients.

    Raises:
      InputError: `trim` is not in [0, 1); at trace, the release is a gradient and the
        observation a weight delta.
    """
    if not 0 <= trim < 1:
        raise InputError(f"trim is {trim}; expected 0 or more and below 1")
    factored = isinstance(match, ProductMatch) and isinstance(release, Gradient)

    def fn(key: jax.Array, observation: Observation, batch: Any):
        if observation.sent == "delta" and isinstance(release, Gradient):
            raise InputError(
                "release is a gradient and the client sent a weight delta, which "
                "points the other way; expected jaxinv.fedavg(...) as the release"
            )

        def one_round(key, params, update, batch, visible=None):
            batch = unwrapped(batch)
            if visible is not None:
                guess = release(key, params, batch)
                return match(*(shown_only(tree, visible) for tree in (guess, update)))
            if factored:
                return match(release.factored(params, batch), update)
            return match(release(key, params, batch), update)

        if observation.rounds == 1:
            # Without the batch axis of vmap convolutions stay ungrouped.
            one = (*observation.round(0), in_round(batch, 0), observation.shown(0))
            matched = one_round(key, *one)
        else:
            keys = jax.random.split(key, observation.rounds)
            args = (keys, observation.params, observation.update, batch)
            axes = (0, 0, 0, round_axes(batch))
            if observation.known.visible is not None:
                args += (_in_every_round(observation),)
                axes += (0,)
            each = jax.vmap(one_round, in_axes=axes)(*args)
            weights = _kept(round_weights(observation), each, trim)
            # A round without an update is no evidence, whatever its match.
            matched = jnp.sum(jnp.where(weights > 0, weights * each, 0))
        terms = Terms(matched, prior(observation, batch))
        return match_weight * terms.match + terms.prior, terms

    return fn


def _in_every_round(observation: Observation) -> Any:
    """What is visible, leaves `[rounds, ...]`."""
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (observation.rounds, *leaf.shape[1:])),
        observation.known.visible,
    )


def _kept(weights: jax.Array, matches: jax.Array, trim: float) -> jax.Array:
    """The weights without the rounds that match worst."""
    num = int(trim * len(matches))
    if not num:
        return weights
    ranked = jnp.where(weights > 0, jax.lax.stop_gradient(matches), -jnp.inf)
    weights = weights.at[jnp.argsort(ranked)[-num:]].set(0)
    total = weights.sum()
    return weights / jnp.where(total > 0, total, 1)
