"""Training: the game of `game`, played for many steps in one scan."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxinv.defenses.learned_perturbation.game import (
    Game,
    Judge,
    Rates,
    Trace,
    Weights,
    rules,
)
from jaxinv.defenses.learned_perturbation.inverter import Inverter
from jaxinv.defenses.learned_perturbation.perturber import Perturber
from jaxinv.options import check_positive
from jaxinv.target import Batch, Params, Target


def minimax(
    key: jax.Array,
    perturber: Perturber,
    inverter: Inverter,
    target: Target,
    params: Params,
    data: Batch,
    *,
    num_steps: int = 2000,
    batch_size: int = 16,
    judge: Judge | None = None,
    weights: Weights | None = None,
    rates: Rates | None = None,
    reset_every: int | None = None,
) -> tuple[Game, Trace]:
    """Plays the game: one step of psi to one of phi and theta, all in one scan.

    Args:
      key: which examples meet in which step, and the perturber's noise.
      perturber: its autoencoder pre-trained (`pretrain`).
      inverter: fresh (`fresh_inverter`).
      target: the model; its probe reads logits.
      params: theta at the start.
      data: `[N, ...]`, public or auxiliary; normalised as the target's spec says.
      num_steps: of the game.
      batch_size: clients of a step, with one example each.
      judge: see `rules`, as the arguments that follow.
      weights: of the terms.
      rates: of Adam.
      reset_every: steps after which theta starts anew.

    Returns:
      The players after the last step, and the trace, leaves `[num_steps]`. What the
      game's own inverter achieves flatters the perturber: judge it by
      `best_response`, and by attacks that were no part of this.

    Raises:
      InputError: an argument is out of range.
    """
    check_positive("num_steps", num_steps)
    check_positive("batch_size", batch_size)
    pixels = target.spec.denormalise(data.inputs)
    cap = jnp.mean((pixels - pixels.mean(0)) ** 2)
    options = {"judge": judge, "weights": weights, "rates": rates}
    played = rules(target, params, cap, reset_every=reset_every, **options)

    def step(game: Game, key: jax.Array):
        of_batch, of_noise = jax.random.split(key)
        chosen = jax.random.randint(of_batch, (batch_size,), 0, len(data.labels))
        return played.step(game, of_noise, jax.tree.map(lambda x: x[chosen], data))

    first = played.start(perturber, inverter, params)
    return jax.lax.scan(step, first, jax.random.split(key, num_steps))
