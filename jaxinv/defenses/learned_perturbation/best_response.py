"""The best response: an inverter trained from scratch against a defence that is final.

What the inverter of the game achieves says little, for it chased a moving perturber;
this one is the honest learned attack, and it takes any release, so that baselines face
the same.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxinv.defenses.learned_perturbation.inverter import (
    Inverter,
    InverterDesign,
    features,
    fresh_inverter,
    inverted,
)
from jaxinv.options import check_positive
from jaxinv.release import Release
from jaxinv.target import Batch, Params


def best_response(
    key: jax.Array,
    design: InverterDesign,
    release: Release,
    params: Params,
    data: Batch,
    *,
    num_steps: int = 2000,
    batch_size: int = 16,
    learning_rate: float = 1e-3,
    num_coordinates: int = 4096,
    num_probes: int = 64,
) -> tuple[Inverter, jax.Array]:
    """Trains an inverter on updates that the attacker makes of images of its own.

    Adam with a cosine schedule on the mean squared error in pixels, one scan.

    Args:
      key: of the start, of what meets in which step and of what the release draws.
      design: of the inverter.
      release: what clients do, defence included, each with one example.
      params: of the model that the server sends: one round's.
      data: `[N, ...]`, the attacker's; not the images that are to be attacked.
      num_steps: of Adam.
      batch_size: clients of a step.
      learning_rate: the first step's.
      num_coordinates: see `fresh_inverter`.
      num_probes: updates to take the inverter's scaling from.

    Returns:
      The inverter, and its error at every step, `[num_steps]`.

    Raises:
      InputError: a number is not positive.
    """
    check_positive("num_steps", num_steps)
    check_positive("batch_size", batch_size)
    check_positive("num_probes", num_probes)
    of_start, of_probes, of_steps = jax.random.split(key, 3)
    pixels = design.spec.denormalise(data.inputs)
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

    def sent(key: jax.Array, x: jax.Array, y: jax.Array) -> Any:
        return release(key, params, Batch(x[None], y[None]))

    def drawn(key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
        return jax.random.randint(key, (count,), 0, len(pixels)), jax.random.split(
            jax.random.fold_in(key, 1), count
        )

    chosen, keys = drawn(of_probes, num_probes)
    seen = jax.vmap(sent)(keys, data.inputs[chosen], data.labels[chosen])
    first = fresh_inverter(
        of_start, design, params, seen, pixels, num_coordinates=num_coordinates
    )

    def step(state: Any, key: jax.Array):
        psi, moments = state
        chosen, keys = drawn(key, batch_size)

        def read(key: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
            return features(first, sent(key, x, y))

        seen = jax.vmap(read)(keys, data.inputs[chosen], data.labels[chosen])

        def error(psi: Any) -> jax.Array:
            guess = inverted(first.replace(params=psi), seen)  # pyright: ignore
            return jnp.mean((guess - pixels[chosen]) ** 2)

        value, slope = jax.value_and_grad(error)(psi)
        updates, moments = optimizer.update(slope, moments)
        return (optax.apply_updates(psi, updates), moments), value

    start = first.params, optimizer.init(first.params)
    (psi, _), errors = jax.lax.scan(step, start, jax.random.split(of_steps, num_steps))
    return first.replace(params=psi), errors  # pyright: ignore
