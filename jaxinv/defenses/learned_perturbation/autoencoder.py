"""The autoencoder is fitted first: what it blurs, it blurs without any defence."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxinv.defenses.learned_perturbation.perturber import Perturber, decode, encode
from jaxinv.options import check_positive


def pretrain(
    key: jax.Array,
    perturber: Perturber,
    inputs: jax.Array,
    *,
    num_steps: int = 2000,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
) -> tuple[Perturber, jax.Array]:
    """Fits encoder and decoder to the images, and measures the latent's scale.

    Adam with a cosine schedule on the mean squared error in pixels, one scan.

    Args:
      key: which images meet in which step.
      perturber: fresh; its shift is left as it is.
      inputs: `[N, H, W, C]`, normalised as its design says. They shape what is sent, so
        they should not be the clients' own: see `training`.
      num_steps: of Adam.
      batch_size: images of a step.
      learning_rate: the first step's.

    Returns:
      The perturber, and the error at every step, `[num_steps]`.

    Raises:
      InputError: a number is not positive; the images are of another shape.
    """
    check_positive("num_steps", num_steps)
    check_positive("batch_size", batch_size)
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))
    spec = perturber.design.spec

    def error(nets: Any, batch: jax.Array) -> jax.Array:
        whole = perturber.replace(params={**perturber.params, **nets})  # pyright: ignore
        back = decode(whole, encode(whole, batch))
        return jnp.mean((spec.denormalise(back) - spec.denormalise(batch)) ** 2)

    def step(state: Any, key: jax.Array):
        nets, moments = state
        drawn = inputs[jax.random.randint(key, (batch_size,), 0, len(inputs))]
        value, slope = jax.value_and_grad(error)(nets, drawn)
        updates, moments = optimizer.update(slope, moments)
        return (optax.apply_updates(nets, updates), moments), value

    nets = {name: perturber.params[name] for name in ("encoder", "decoder")}
    keys = jax.random.split(key, num_steps)
    (nets, _), errors = jax.lax.scan(step, (nets, optimizer.init(nets)), keys)
    fitted: Perturber = perturber.replace(params={**perturber.params, **nets})  # pyright: ignore
    latents = jax.lax.map(lambda x: encode(fitted, x[None])[0], inputs, batch_size=64)
    scale = jnp.std(latents, axis=(0, 1, 2))
    # A channel that says nothing is not moved far, and divided by nothing.
    scale = jnp.maximum(scale, 1e-6)
    return fitted.replace(scale=scale), errors  # pyright: ignore
