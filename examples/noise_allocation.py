"""Noise of one standard deviation per tensor, learned against an attack.

    python examples/noise_allocation.py noise_allocation.png

A LeNet on small embedded photographs (needs jaxinv[demo]). The cost of the noise,
to second order in the loss of the photographs that no client here holds, is the same
for every allocation. The picture shows how the noise is spent, and what the most
probable image is for an attacker who knows it.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax

from jaxinv import hardening, matching, models, priors, space
from jaxinv.attacks.base import iterate
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.data import load_images
from jaxinv.defenses.noise import gaussian_noise
from jaxinv.defenses.protection import protect
from jaxinv.hardening.privacy import observed
from jaxinv.objective import objective
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec

SIZE, STD, RATE, STEPS = 16, 0.03, 0.1, 600


def main(path: str) -> None:
    """Learns, attacks, prints the PSNR and draws."""
    data = load_images(None, size=SIZE)
    pixels = jnp.asarray(data.x, jnp.float32) / 255
    mean, std = (
        tuple(map(float, f(np.asarray(pixels), (0, 1, 2)))) for f in (np.mean, np.std)
    )
    spec = Spec((SIZE, SIZE, 3), data.num_classes, mean, std)
    photos = Batch(spec.normalise(pixels), jnp.asarray(data.y))
    held, train, attacked = (
        jax.tree.map(lambda leaf: leaf[part], photos)
        for part in (slice(8, 24), slice(24, None), slice(3))
    )
    target = models.build("lenet", spec)
    release = gradient(target.loss)
    update = jax.jit(release)
    params = jax.jit(target.init)(jax.random.key(0))
    for _ in range(20):
        slope = update(jax.random.key(0), params, train)
        params = jax.tree.map(lambda p, g: p - RATE * g, params, slope)

    def noisy(stds):
        return protect(release, gaussian_noise(stds))

    def attack(stds, where):
        prior = priors.total_variation(inner=2, outer=0.5)
        aim = objective(
            release,
            matching.squared(hardening.inverse_variance(stds)),
            priors.weighted((float(np.prod(spec.shape)), prior)),
        )
        adam = optax.adam(optax.cosine_decay_schedule(0.1, STEPS))
        return gradient_matching(aim, where, adam, STEPS)

    prices = jax.jit(
        lambda key, params, held: hardening.noise_prices(
            key, target.loss, params, held, learning_rate=RATE, std=STD
        )
    )(jax.random.key(1), params, held)
    budget = STD**2 * sum(float(price) for price in jax.tree.leaves(prices))
    constraint = hardening.noise_budget(prices, budget)
    uniform = jax.tree.map(lambda price: jnp.asarray(STD), prices)
    rough = [jnp.mean(jnp.diff(train.inputs, axis=axis) ** 2) for axis in (1, 2)]
    privacy = hardening.to_first_order(
        target,
        precision=0.1,
        smoothness=float(1 / sum(rough)),
        distance=hardening.decibels(target),
    )

    @jax.jit
    def learn(key, theta, params, train):
        def clients(key):
            row = jax.random.randint(key, (), 0, len(train.labels))
            one = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, row, 1), train)
            return params, one

        return hardening.harden(
            key,
            theta,
            privacy,
            clients,
            num_steps=50,
            num_clients=4,
            constraint=constraint,
            optimizer=optax.adam(optax.cosine_decay_schedule(0.4, 50)),
        )

    learned = learn(jax.random.key(2), constraint.invert(uniform), params, train)

    @jax.jit
    def recover(stds, params, batch):
        key = jax.random.key(3)
        seen = observed(key, noisy(stds), target, params, batch, True)

        def stage(inputs, power):
            # Unequal weights make the search slow, so it begins with equal ones.
            mild = jax.tree.map(lambda s: STD ** (1 - power) * s**power, stds)
            where = space.pixels(spec, initial=lambda key, shape: inputs)
            return iterate(attack(mild, where))(key, seen).batch.inputs, None

        start = jax.random.normal(key, batch.inputs.shape)
        inputs, _ = jax.lax.scan(stage, start, jnp.asarray([0.0, 0.5, 1.0]))
        loss = hardening.decibels(target)(batch, batch._replace(inputs=inputs))
        return spec.denormalise(inputs), loss

    rows = {"uniform": uniform, "learned": learned.parameters}
    singles = [jax.tree.map(lambda x, i=i: x[i : i + 1], attacked) for i in range(3)]
    found = {
        name: [recover(stds, params, one) for one in singles]
        for name, stds in rows.items()
    }
    for name, each in found.items():
        print(name, "PSNR dB", [round(-float(loss), 1) for _, loss in each])
    _draw(path, rows, found, spec.denormalise(attacked.inputs))


def _draw(path, rows, found, truth) -> None:
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [
        "/".join(str(key.key) for key in path)
        for path, _ in jax.tree_util.tree_flatten_with_path(rows["uniform"])[0]
    ]
    figure = plt.figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False)[0]
    axis = left.subplots()
    for shift, (name, stds) in zip((-0.2, 0.2), rows.items(), strict=True):
        places = np.arange(len(names)) + shift
        axis.barh(places, [float(s) for s in jax.tree.leaves(stds)], 0.4, label=name)
    axis.set_yticks(np.arange(len(names)), names)
    axis.set_xlabel("standard deviation of the noise")
    axis.legend()
    grid = right.subplots(3, 3, squeeze=False)
    images = {"truth": list(truth)} | {
        name: [image[0] for image, _ in each] for name, each in found.items()
    }
    for row, (name, column) in zip(grid, images.items(), strict=True):
        for axis, image in zip(row, column, strict=True):
            axis.imshow(np.clip(np.asarray(image), 0, 1))
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(name)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "noise_allocation.png")
