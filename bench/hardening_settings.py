"""What `bench.hardening` learns on: a model, its weights, clients and utility."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxinv import matching, models, priors
from jaxinv.attacks.base import Attack
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.defenses.noise import gaussian_noise
from jaxinv.defenses.protection import protect
from jaxinv.hardening import training_loss
from jaxinv.matching import LeafWeights
from jaxinv.objective import objective
from jaxinv.release import Release, gradient
from jaxinv.space import Space
from jaxinv.target import Batch, Spec, Target


@dataclass(frozen=True)
class Setting:
    """One row of the study."""

    model: str
    data: str
    """`mnist`, `fashion_mnist` or `cifar10`, of the data folder."""
    trained: int
    """Steps of SGD before the round that is attacked."""
    std: float
    """Of the uniform noise."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of the model."""
    learning_rate: float = 0.1
    """Of the training, and of the noisy steps by which utility is measured."""


SETTINGS = {
    "lenet-cifar10-20": Setting("lenet", "cifar10", 20, 0.05),
    "mlp-mnist-200": Setting("mlp", "mnist", 200, 0.05, {"widths": (32,)}),
    "lenet-mnist-20": Setting("lenet", "mnist", 20, 0.1),
    "lenet-fashion-20": Setting("lenet", "fashion_mnist", 20, 0.1),
    "lenet-cifar10-200": Setting("lenet", "cifar10", 200, 0.05),
    "lenet-mnist-20-quiet": Setting("lenet", "mnist", 20, 0.03),
    "lenet-fashion-20-quiet": Setting("lenet", "fashion_mnist", 20, 0.03),
    "lenet-cifar10-20-quiet": Setting("lenet", "cifar10", 20, 0.02),
}
"""By model, data and steps of training; quiet ones have less noise."""
UTILITY_STEPS, UTILITY_BATCH = 10, 16
"""Of the noisy training by whose held-out loss allocations are made equal."""


class Problem(NamedTuple):
    """A setting with its numbers."""

    target: Target
    params: Any
    train: Batch
    """Of the clients that a defence is learned on, and of the noisy training."""
    held_out: Batch
    """By which utility is measured."""
    attacked: Batch
    """Of the clients that are attacked in the end; in neither of the others."""
    measure: Callable[[Batch, Batch], Callable[[jax.Array, Release, Any], jax.Array]]
    """`(train, held_out)` to the `training_loss` of the noisy steps."""

    @property
    def data(self) -> tuple[Any, Batch, Batch]:
        """Params, train, held out: inputs, for XLA folds constants, slowly."""
        return self.params, self.train, self.held_out


def extra(problem: Problem, data: Any, keys: jax.Array, std: Any) -> jax.Array:
    """`[S]`, the extra held-out loss of noise in both signs, for keys `[S]`."""
    params, train, held_out = data
    release = gradient(problem.target.loss)
    measure = problem.measure(train, held_out)
    # A draw and its negative: what is linear in the noise falls out.
    signs = jnp.asarray([1.0, -1.0, 0.0])

    def one(key: jax.Array) -> jax.Array:
        def signed(sign: jax.Array) -> jax.Array:
            noise = gaussian_noise(jax.tree.map(lambda s: sign * s, std))
            return measure(key, protect(release, noise), params)

        up, down, clean = jax.lax.map(signed, signs)
        return (up + down) / 2 - clean

    return jax.lax.map(one, keys)


def make_problem(setting: Setting, folder: Path, num_attacked: int) -> Problem:
    """Reads the data, trains the model, and cuts the test images in two."""
    with np.load(folder / f"{setting.data}_subset.npz") as archive:
        arrays = {name: archive[name] for name in ("x_train", "x_test")}
        labels = {name: archive[name] for name in ("y_train", "y_test")}
    images = {
        name: x if x.ndim == 4 else x[..., np.newaxis] for name, x in arrays.items()
    }
    pixels = images["x_train"] / 255
    spec = Spec(
        pixels.shape[1:],
        10,
        tuple(pixels.mean((0, 1, 2))),
        tuple(pixels.std((0, 1, 2))),
    )
    target = models.build(setting.model, spec, **setting.options)

    def batch(part: str) -> Batch:
        x = jnp.asarray(images[f"x_{part}"], jnp.float32) / 255
        return Batch(spec.normalise(x), jnp.asarray(labels[f"y_{part}"], jnp.int32))

    train, test = batch("train"), batch("test")
    release = gradient(target.loss)
    rate = setting.learning_rate

    @jax.jit
    def sgd(params: Any, train: Batch, keys: jax.Array) -> Any:
        def step(params: Any, key: jax.Array):
            rows = jax.random.randint(key, (UTILITY_BATCH,), 0, len(train.labels))
            update = release(key, params, jax.tree.map(lambda leaf: leaf[rows], train))
            moved = jax.tree.map(lambda p, g: p - rate * g, params, update)
            return moved, None

        return jax.lax.scan(step, params, keys)[0]

    params = jax.jit(target.init)(jax.random.key(0))
    if setting.trained:
        keys = jax.random.split(jax.random.key(1), setting.trained)
        params = sgd(params, train, keys)
    held_out, attacked = (
        jax.tree.map(lambda leaf: leaf[cut], test)
        for cut in (slice(num_attacked, num_attacked + 300), slice(num_attacked))
    )

    def measure(train: Batch, held_out: Batch):
        return training_loss(
            target.loss,
            train,
            held_out,
            learning_rate=rate,
            num_steps=UTILITY_STEPS,
            batch_size=UTILITY_BATCH,
        )

    return Problem(target, params, train, held_out, attacked, measure)


def attack_of(
    target: Target,
    weights: LeafWeights,
    where: Space,
    num_steps: int,
    *,
    tv: Any = 1.0,
    learning_rate: float = 0.1,
) -> Attack:
    """Adam on the weighted squared match and isotropic total variation.

    With the weights of a likelihood, `tv` per pixel stands for minus the logarithm of
    a prior, and the solution is the most probable image.
    """
    prior = priors.total_variation(inner=2, outer=0.5)
    return gradient_matching(
        objective(
            gradient(target.loss),
            matching.squared(weights),
            priors.weighted((tv * np.prod(target.spec.shape), prior)),
        ),
        where,
        optax.adam(
            optax.cosine_decay_schedule(learning_rate, num_steps), eps_root=1e-16
        ),
        num_steps,
    )


def tempered(std: Any, power: Any, like: Any) -> LeafWeights:
    """Weights by `std^(-2 power)`, of the likelihood's size: 0 knows no allocation.

    Very unequal weights make the search slow. A patient attacker goes from 0 to 1.
    """
    sizes = jnp.asarray([float(leaf.size) for leaf in jax.tree.leaves(like)])
    stds = jnp.stack(jax.tree.leaves(std))
    weights = 0.5 * stds ** (-2 * power)
    weights *= sizes.sum() / jnp.sum(sizes * 2 * weights * stds**2)
    return lambda observed: list(weights)


def spectral_start(update: Any, spec: Spec) -> jax.Array:
    """The input of a first dense layer from its noisy gradient, which has rank one.

    Its leading singular vectors, scaled by the bias: the closed form of
    `linear_layer`, for noise. `[1, H, W, C]`.
    """
    kernel, bias = update["linear0"]["kernel"], update["linear0"]["bias"]
    # The smaller side's matrix, by power iteration: no LAPACK within a scan.
    gram = kernel.T @ kernel

    def turn(v: jax.Array, _: None):
        v = gram @ v
        return v / jnp.linalg.norm(v), None

    v, _ = jax.lax.scan(turn, bias / jnp.linalg.norm(bias), length=50)
    return ((kernel @ v) / (bias @ v)).reshape(1, *spec.shape)
