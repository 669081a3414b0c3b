"""Objectives: the match between releases plus the priors, over all rounds seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxinv.matching import MatchFn, ProductMatch
from jaxinv.observation import Observation
from jaxinv.priors import PriorFn, no_prior
from jaxinv.release import Gradient, Release


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
) -> ObjectiveFn:
    """`match_weight * mean over rounds of match(release(batch), update) + prior`.

    Args:
      release: what the attacker believes the client did.
      match: distance of two updates. Where it reads the guess's update by inner
        products alone, a gradient is not formed where its factors do
        (`jaxinv.factored`).
      prior: weighted already (`jaxinv.priors.weighted`).
      match_weight: factor of the match in the sum; the terms report it without.
    """
    factored = isinstance(match, ProductMatch) and isinstance(release, Gradient)

    def fn(key: jax.Array, observation: Observation, batch: Any):
        def one_round(key, params, update):
            if factored:
                return match(release.factored(params, batch), update)
            return match(release(key, params, batch), update)

        if observation.rounds == 1:
            # Without the batch axis of vmap convolutions stay ungrouped.
            matched = one_round(key, *observation.round(0))
        else:
            keys = jax.random.split(key, observation.rounds)
            args = (keys, observation.params, observation.update)
            matched = jax.vmap(one_round)(*args).mean()
        terms = Terms(matched, prior(observation, batch))
        return match_weight * terms.match + terms.prior, terms

    return fn
