"""The attacks of the study of learned perturbation, each one compiled call."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxinv.attacks import Attack, inverting_gradients, iterate
from jaxinv.attacks.cosine_lbfgs import cosine_lbfgs
from jaxinv.defenses.learned_perturbation import (
    InverterDesign,
    Perturber,
    best_response,
    features,
    inverted,
    learned_perturbation,
)
from jaxinv.defenses.protection import expected
from jaxinv.observation import Knowledge, Observation
from jaxinv.release import Release, gradient
from jaxinv.target import Batch, Spec, Target


class Secrets(NamedTuple):
    """What is attacked: clients with one image each, at models as initialised."""

    params: Any
    """Leaves `[M, ...]`, the model that each client received."""
    batch: Batch
    """`[M, 1, H, W, C]` and `[M, 1]`."""
    keys: jax.Array
    """`[M]`, of what each client draws."""


def secrets(target: Target, data: Batch, seeds: int, each: int) -> Secrets:
    """The first `seeds * each` images, `each` of them at every seed's model."""
    models = jax.vmap(target.init)(jax.random.split(jax.random.key(7), seeds))
    count = seeds * each
    batch = jax.tree.map(lambda x: x[:count, None], data)
    params = jax.tree.map(lambda leaf: jnp.repeat(leaf, each, axis=0), models)
    return Secrets(params, batch, jax.random.split(jax.random.key(8), count))


def released(release: Release, secret: Secrets) -> Any:
    """What the clients send, leaves `[M, ...]`."""
    return jax.lax.map(lambda s: release(s.keys, s.params, s.batch), secret)


def reconstructed(attack: Attack, spec: Spec, secret: Secrets, sent: Any) -> jax.Array:
    """Pixels `[M, H, W, C]`; the attacker is told the labels, and sees no image."""
    run = iterate(attack)

    def one(given: Any) -> jax.Array:
        key, params, sent, labels = given
        seen = Observation(
            jax.tree.map(lambda leaf: leaf[None], params),
            jax.tree.map(lambda leaf: leaf[None], sent),
            Knowledge(labels=labels),
            num_examples=1,
            spec=spec,
        )
        return spec.denormalise(run(key, seen).batch.inputs[0])

    keys = jax.random.split(jax.random.key(9), len(secret.keys))
    return jax.lax.map(one, (keys, secret.params, sent, secret.batch.labels))


def by_adam(target: Target, steps: int, tv: float, **options: Any) -> Attack:
    """Inverting Gradients as a small smooth model wants it."""
    return inverting_gradients(
        target,
        num_steps=steps,
        learning_rate=0.1,
        tv=tv,
        signed=None,
        schedule="cosine",
        **options,
    )


def by_lbfgs(target: Target, steps: int, tv: float) -> Attack:
    """The same objective by L-BFGS."""
    return cosine_lbfgs(target, num_steps=steps, tv=tv, memory_size=20)


def knowing(
    target: Target, perturber: Perturber, steps: int, tv: float, draws: int
) -> Attack:
    """Inverting Gradients through the perturber, its noise averaged over draws."""
    release = learned_perturbation(gradient(target.loss), perturber)
    return by_adam(target, steps, tv, release=expected(release, draws))


def learned(
    release: Release,
    spec: Spec,
    params: Any,
    auxiliary: Batch,
    secret: Batch,
    *,
    steps: int,
    coordinates: int,
) -> tuple[jax.Array, jax.Array]:
    """The best response, and what it makes of clients' images.

    Args:
      release: what clients do, which this attacker knows.
      spec: of the images.
      params: of one model.
      auxiliary: the attacker's images.
      secret: `[M, H, W, C]` and `[M]`, the clients'.
      steps: of the inverter's training.
      coordinates: that it reads beside the output layer.

    Returns:
      Pixels `[M, H, W, C]`, and the last error on the attacker's own images, `[]`.
    """
    inverter, errors = best_response(
        jax.random.key(11),
        InverterDesign(spec),
        release,
        params,
        auxiliary,
        num_steps=steps,
        num_coordinates=coordinates,
        learning_rate=2e-3,
    )

    def read(given: Any) -> jax.Array:
        key, x, y = given
        return features(inverter, release(key, params, Batch(x[None], y[None])))

    keys = jax.random.split(jax.random.key(12), len(secret.labels))
    seen = jax.lax.map(read, (keys, *secret))
    return inverted(inverter, seen), errors[-20:].mean()
