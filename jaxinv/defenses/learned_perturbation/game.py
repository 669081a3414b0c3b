"""The minimax game: a perturber against a learned inverter, around a model that learns.

Re-derived from the abstract of arXiv 2503.16542 (see `perturber`); losses, weights and
schedule are ours. One step, on a batch of clients with one example each and g their
gradients at theta:

    psi    down  |A_psi(g) - x|^2
    phi    down  CE(f_theta(x~), y) - rec min(|A_psi(g) - x|^2 / cap, 1)
                 - adv min(CE(judge(A_psi(g)), y), log K) + latent |delta / (eps s)|^2
    theta  down  CE(f_theta(x~), y) + clean CE(f_theta(x), y)

The cap is the error of the mean image, the best that an attacker can say who saw
nothing: beyond it phi would be paid for confusing this one inverter. phi is the shift
alone; encoder and decoder stay as pre-trained, or the bound would be in units of a
latent that moves. Theta does not learn to hide: in deployment the server sets it. It
goes back to where it started every `reset_every` steps, for early models' gradients say
the most. A perturber keeps something of the images that it was trained on: train it on
public or auxiliary ones, not on the clients'. `training` plays the game.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxinv.defenses.checks import check_strength
from jaxinv.defenses.learned_perturbation.inverter import Inverter, features, inverted
from jaxinv.defenses.learned_perturbation.perturber import (
    Perturbed,
    Perturber,
    perturbed,
)
from jaxinv.errors import InputError
from jaxinv.options import check_positive
from jaxinv.release import gradient
from jaxinv.target import Batch, Params, Target, Variables, cross_entropy

Judge = Callable[[jax.Array], jax.Array]
"""Pixels `[N, H, W, C]` to logits `[N, K]`, of a classifier trained on clean images."""


@dataclass(frozen=True)
class Weights:
    """Of the terms of the game.

    Attributes:
      rec: of the inverter's error, as a share of the cap.
      adv: of the judge's, on what was inverted.
      latent: of the mean square of delta in units of its bound.
      clean: of the model's error on images as they were.
    """

    rec: float = 1.0
    adv: float = 0.1
    latent: float = 1e-3
    clean: float = 1.0

    def __post_init__(self) -> None:
        for name in ("rec", "adv", "latent", "clean"):
            check_strength(f"weights.{name}", getattr(self, name))


@dataclass(frozen=True)
class Rates:
    """Of Adam.

    Attributes:
      psi: of the inverter.
      phi: of the perturber.
      theta: of the model.
    """

    psi: float = 1e-3
    phi: float = 1e-3
    theta: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("psi", "phi", "theta"):
            check_strength(f"rates.{name}", getattr(self, name))


class Game(NamedTuple):
    """The players after some steps."""

    perturber: Perturber
    """Its shift is phi."""
    inverter: Inverter
    """Its parameters are psi."""
    params: Params
    """theta, of the model."""
    moments: tuple[Any, Any, Any]
    """Of Adam, for psi, phi and theta."""
    step: jax.Array
    """`[]` int32, how many were taken."""


class Trace(NamedTuple):
    """What a step measured, before its players moved."""

    inverted: jax.Array
    """`[]`, the inverter's mean squared error, pixels."""
    moved: jax.Array
    """`[]`, mean squared distance of perturbed images from their originals, pixels."""
    delta: jax.Array
    """`[]`, root mean square of delta in units of its bound."""
    perturbed_loss: jax.Array
    """`[]`, the model's cross-entropy on perturbed images."""
    clean_loss: jax.Array
    """`[]`, on clean ones."""


class Rules(NamedTuple):
    """A game that can be played; see `rules`."""

    start: Callable[[Perturber, Inverter, Params], Game]
    """Before the first step."""
    step: Callable[[Game, jax.Array, Batch], tuple[Game, Trace]]
    """`(game, key, batch) -> (game, trace)`, one step on these clients."""


def rules(
    target: Target,
    first: Params,
    cap: jax.Array | float,
    *,
    judge: Judge | None = None,
    weights: Weights | None = None,
    rates: Rates | None = None,
    reset_every: int | None = None,
) -> Rules:
    """The rules of the game; `minimax` plays it.

    Args:
      target: the model; its probe reads logits.
      first: the parameters theta starts from, and goes back to.
      cap: mean squared error in pixels beyond which the inverter counts as lost.
      judge: None leaves its term out.
      weights: of the terms.
      rates: of Adam.
      reset_every: None lets theta go on.

    Raises:
      InputError: an argument is out of range, the target has no probe, or the model has
        more than trained parameters.
    """
    if isinstance(first, Variables):
        raise InputError(
            "params are Variables; the game expects a model whose parameters are all "
            "trained, without running statistics"
        )
    if target.probe is None:
        raise InputError("target has no probe; the game expects one that reads logits")
    if reset_every is not None:
        check_positive("reset_every", reset_every)
    weights, rates = weights or Weights(), rates or Rates()
    probe, spec, release = target.probe, target.spec, gradient(target.loss)
    adams = tuple(map(optax.adam, (rates.psi, rates.phi, rates.theta)))

    def start(perturber: Perturber, inverter: Inverter, params: Params) -> Game:
        played = inverter.params, perturber.params["shift"], params
        moments = tuple(a.init(p) for a, p in zip(adams, played, strict=True))
        return Game(perturber, inverter, params, moments, jnp.zeros((), jnp.int32))  # pyright: ignore

    def step(game: Game, key: jax.Array, batch: Batch) -> tuple[Game, Trace]:
        theta, pixels = game.params, spec.denormalise(batch.inputs)

        def view(shift: Any) -> tuple[jax.Array, Perturbed]:
            """What the inverter reads of each client, and the images behind it."""
            own = with_shift(game.perturber, shift)
            made = perturbed(own, key, batch.inputs)

            def of_one(x: jax.Array, y: jax.Array) -> jax.Array:
                update = release(key, theta, Batch(x[None], y[None]))
                return features(game.inverter, update)

            return jax.vmap(of_one)(made.inputs, batch.labels), made

        def error(psi: Any, read: jax.Array) -> tuple[jax.Array, jax.Array]:
            guess = inverted(game.inverter.replace(params=psi), read)  # pyright: ignore
            return jnp.mean((guess - pixels) ** 2), guess

        phi = game.perturber.params["shift"]
        (read, made), pull = jax.vjp(view, phi)
        (now, _), slope = jax.value_and_grad(error, has_aux=True)(
            game.inverter.params, read
        )
        psi, of_psi = _moved(adams[0], slope, game.moments[0], game.inverter.params)

        def cost(read: jax.Array, made: Perturbed, theta: Params):
            off, guess = error(psi, read)
            total = -weights.rec * jnp.minimum(off / cap, 1)
            if judge is not None:
                wrong = cross_entropy(judge(guess), batch.labels)
                total -= weights.adv * jnp.minimum(wrong, jnp.log(spec.num_classes))
            bound = game.perturber.eps * game.perturber.scale
            used = jnp.mean((made.delta / jnp.where(bound > 0, bound, 1)) ** 2)
            logits = probe(theta, Batch(made.inputs, batch.labels)).logits
            useful = cross_entropy(logits, batch.labels)
            logits = probe(theta, batch).logits
            clean = cross_entropy(logits, batch.labels)
            total += weights.latent * used + useful + weights.clean * clean
            return total, (used, useful, clean)

        (_, told), slopes = jax.value_and_grad(cost, (0, 1, 2), has_aux=True)(
            read, made, theta
        )
        (slope,) = pull(slopes[:2])
        phi, of_phi = _moved(adams[1], slope, game.moments[1], phi)
        theta, of_theta = _moved(adams[2], slopes[2], game.moments[2], theta)
        if reset_every is not None:
            over = (game.step + 1) % reset_every == 0
            theta, of_theta = jax.tree.map(
                lambda a, b: jnp.where(over, a, b),
                (first, adams[2].init(first)),
                (theta, of_theta),
            )
        used, useful, clean = told
        off = jnp.mean((spec.denormalise(made.inputs) - pixels) ** 2)
        trace = Trace(now, off, jnp.sqrt(used), useful, clean)
        after = Game(
            with_shift(game.perturber, phi),
            game.inverter.replace(params=psi),  # pyright: ignore
            theta,
            (of_psi, of_phi, of_theta),
            game.step + 1,
        )
        return after, trace

    return Rules(start, step)


def with_shift(perturber: Perturber, shift: Any) -> Perturber:
    """The perturber with other parameters of its shift."""
    return perturber.replace(params={**perturber.params, "shift": shift})  # pyright: ignore


def _moved(adam: Any, slope: Any, moments: Any, params: Any) -> tuple[Any, Any]:
    updates, moments = adam.update(slope, moments, params)
    return optax.apply_updates(params, updates), moments
