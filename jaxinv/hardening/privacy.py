"""Privacy as the defender measures it: how far from the truth the attacker ends.

The defender knows the truth and differentiates by the parameters of its defence. The
attacker does not: what it returns is its own choice by its own score.

A defence that is learned against a search can learn to make the search slow, and then
fails before a more patient one: noise of very unequal sizes does that to the
likelihood. `from_truth` takes the search away: an attack that starts at the secret is
one that no attacker has, and where it ends, once it has converged, is what the noise
alone has hidden. (`jaxinv.hardening.posterior` needs no search at all.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxinv.attacks.base import Attack
from jaxinv.errors import InputError
from jaxinv.hardening.unrolled import unrolled
from jaxinv.observation import Knowledge, Observation
from jaxinv.release import Release
from jaxinv.space import Space
from jaxinv.target import Batch, Params, Target


class PrivacySlope(NamedTuple):
    """The privacy of one client, and how the defence moves it."""

    value: jax.Array
    """`[]`, higher is more private, in the unit of the distance."""
    slope: Any
    """Its derivative by the parameters of the defence, structured as they are."""
    info: dict[str, jax.Array]
    """`[]` each: "score" and "status" of the attack, and what the way of
    differentiation adds."""


PrivacyFn = Callable[[jax.Array, Any, Params, Any], PrivacySlope]
"""`(key, parameters, params, batch) -> PrivacySlope`: parameters of the defence, then
what the server sent and the client's secret."""

Distance = Callable[[Any, Any], jax.Array]
"""`(truth, guess) -> scalar` of two batches; higher is more private."""


def mean_squared(truth: Batch, guess: Batch) -> jax.Array:
    """Mean squared error of the inputs, in the units the model reads."""
    return jnp.mean((truth.inputs - guess.inputs) ** 2)


def decibels(target: Target) -> Distance:
    """Minus the peak signal-to-noise ratio of pixels in [0, 1], mean over examples.

    One image that is lost entirely then does not pay for ten that are recovered.
    """

    def distance(truth: Batch, guess: Batch) -> jax.Array:
        pixels = target.spec.denormalise
        error = (pixels(truth.inputs) - pixels(guess.inputs)) ** 2
        mean = error.reshape(error.shape[0], -1).mean(1)
        return jnp.mean(10 * jnp.log10(mean + 1e-10))

    return distance


def through_steps(
    target: Target,
    release: Callable[[Any], Release],
    attack: Callable[[Any, Any], Attack],
    *,
    distance: Distance = mean_squared,
    labels: bool = True,
    **options: Any,
) -> PrivacyFn:
    """The privacy through the steps of an attack.

    Args:
      target: the model.
      release: `(parameters) -> release`, what a client sends.
      attack: `(parameters, batch) -> attack`; one that reads the parameters is
        adaptive, it knows the defence (not what it drew), and its own choices are
        differentiated as well. The secret batch is there for `from_truth` alone.
      distance: of the truth and a guess.
      labels: whether the attacker is granted them.
      **options: of `jaxinv.hardening.unrolled`.

    Raises:
      InputError: as there.
    """

    def privacy(key: jax.Array, parameters: Any, params: Params, batch: Any):
        key_release, key_attack = jax.random.split(key)

        def value(parameters: Any):
            seen = observed(
                key_release, release(parameters), target, params, batch, labels
            )
            run = unrolled(attack(parameters, batch), **options)
            found = run(key_attack, seen)
            each = jax.vmap(distance, (None, 0))(batch, found.batch)
            # What diverged was not chosen, whatever its distance.
            chosen = jnp.where(found.weights > 0, found.weights * each, 0)
            lost = jnp.where(found.status == 0, 0.0, jnp.nan)
            info = {"score": found.scores.min(), "status": found.status}
            return chosen.sum() + lost, info

        (found, info), slope = jax.value_and_grad(value, has_aux=True)(parameters)
        return PrivacySlope(found, slope, info)

    return privacy


def from_truth(space: Space, batch: Batch, *, spread: float = 0.0) -> Space:
    """The space of pixels, its start moved to the truth plus normal noise.

    For a defender who learns or bounds; never for an attack that is reported as one.
    The attack keeps its best point: where its steps do not get below the objective of
    the truth, as a short run of an optimiser with large steps does not, it returns the
    start, and the privacy of that means nothing. Compare with a longer run.

    Args:
      space: `jaxinv.space.pixels` with known labels.
      batch: the secret.
      spread: standard deviation of the noise, in units of the normalised inputs.

    Raises:
      InputError: the spread is negative.
    """
    if not spread >= 0:
        raise InputError(f"spread is {spread!r}; expected 0 or more")

    def init(key: jax.Array, observation: Observation):
        key_space, key_noise = jax.random.split(key)
        z, given = space.init(key_space, observation)
        noise = jax.random.normal(key_noise, batch.inputs.shape, batch.inputs.dtype)
        return z._replace(inputs=batch.inputs + spread * noise), given

    return space._replace(init=init)


def observed(
    key: jax.Array,
    release: Release,
    target: Target,
    params: Params,
    batch: Batch,
    labels: bool,
) -> Observation:
    """What the server has of one client, under jit and differentiable.

    As `jaxinv.client.simulate`, which checks numbers on the host.
    """
    update = release(key, params, batch)

    def one_round(leaf: Any) -> jax.Array:
        return jnp.asarray(leaf)[None]

    return Observation(
        params=jax.tree.map(one_round, params),
        update=jax.tree.map(one_round, update),
        known=Knowledge(labels=batch.labels if labels else None),
        num_examples=batch.inputs.shape[0],
        spec=target.spec,
        sent="gradient" if getattr(release, "local", None) is None else "delta",
    )
