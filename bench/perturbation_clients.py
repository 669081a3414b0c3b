"""What the study of learned perturbation trains: clients and the attacker's judge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxinv_kernels.conv import conv_general_dilated

from jaxinv.adapters import from_linen
from jaxinv.defenses.learned_perturbation import Perturber, perturbed
from jaxinv.defenses.protection import protect
from jaxinv.release import Release, gradient
from jaxinv.target import Batch, Spec, Target


class Split(NamedTuple):
    """A data set in three disjoint parts, pixels normalised as `spec` says."""

    name: str
    spec: Spec
    auxiliary: Batch
    """A third: the perturber, the inverters and the judge are trained on it."""
    clients: Batch
    """Two fifths: what the clients train on; the secrets are its first images."""
    test: Batch
    """The rest: accuracies."""


def load(folder: Path, name: str) -> Split:
    """`pneumonia`, or `cifar10` as vehicles (1) against animals (0).

    All parts of the file are pooled and split anew, the same way every time: its own
    test part of X-rays is of other hospitals' quality, and CIFAR-10's ten classes are
    more than 2,000 images teach.
    """
    if name == "pneumonia":
        with np.load(folder / "pneumoniamnist_subset.npz") as data:
            parts = ("train", "val", "test")
            x = np.concatenate([data[f"x_{part}"] for part in parts])[..., None]
            y = np.concatenate([data[f"y_{part}"] for part in parts])
    else:
        with np.load(folder / "cifar10_subset.npz") as data:
            x = np.concatenate([data["x_train"], data["x_test"]])
            y = np.concatenate([data["y_train"], data["y_test"]])
        y = np.isin(y, (0, 1, 8, 9))  # airplane, automobile, ship, truck
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order].astype(np.float32) / 255, y[order].astype(np.int32)
    ends = len(y) // 3, len(y) // 3 + 2 * len(y) // 5
    own = x[: ends[0]]
    spec = Spec(x.shape[1:], 2, tuple(own.mean((0, 1, 2))), tuple(own.std((0, 1, 2))))
    inputs = spec.normalise(jnp.asarray(x))
    parts = [
        Batch(inputs[a:b], jnp.asarray(y[a:b]))
        for a, b in ((0, ends[0]), ends, (ends[1], len(y)))
    ]
    return Split(name, spec, *parts)


class JudgeNet(nn.Module):
    """Three convolutions with GELU and a dense layer."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[N, H, W, C]` to `[N, 2]`."""
        for i, stride in enumerate((2, 2, 1)):
            layer = nn.Conv(
                16,
                (5, 5),
                strides=stride,
                padding=2,
                conv_general_dilated=conv_general_dilated,
                name=f"conv{i}",
            )
            x = nn.gelu(layer(x))
        return nn.Dense(2, name="linear")(x.reshape(len(x), -1))


def judge_target(spec: Spec) -> Target:
    """The attacker's classifier, another model than the clients'."""
    return from_linen(JudgeNet(), spec)


def trained(
    key: jax.Array,
    target: Target,
    release: Release,
    data: Batch,
    *,
    steps: int,
    clients: int,
    learning_rate: float = 3e-3,
    together: bool = True,
) -> Any:
    """A model trained by FedSGD with Adam on the server, one scan.

    Args:
      key: of the start and of which clients meet in which round.
      target: the model.
      release: what every client sends of its one example.
      data: the clients' examples.
      steps: rounds.
      clients: of a round, drawn anew.
      learning_rate: of Adam, falling as a cosine.
      together: the release is a mean over examples that draws for each of them, so
        that one call on all gives the mean of what clients send; else each is called.
    """
    adam = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    params = target.init(key)

    def step(state: Any, key: jax.Array):
        params, moments = state
        of_choice, own = jax.random.split(key)
        chosen = jax.random.randint(of_choice, (clients,), 0, len(data.labels))
        batch = jax.tree.map(lambda x: x[chosen], data)
        if together:
            mean = release(own, params, batch)
        else:
            alone = jax.tree.map(lambda x: x[:, None], batch)
            keys = jax.random.split(own, clients)
            sent = jax.vmap(release, (0, None, 0))(keys, params, alone)
            mean = jax.tree.map(lambda leaf: leaf.mean(0), sent)
        updates, moments = adam.update(mean, moments)
        return (optax.apply_updates(params, updates), moments), None

    start = params, adam.init(params)
    return jax.lax.scan(step, start, jax.random.split(key, steps))[0][0]


def accuracy(target: Target, params: Any, data: Batch) -> jax.Array:
    """Share of examples whose class the model says, `[]`."""
    assert target.probe is not None
    return jnp.mean(jnp.argmax(target.probe(params, data).logits, 1) == data.labels)


class Accuracy(NamedTuple):
    """Of one defence, `[seeds]` each, on test images."""

    clean: jax.Array
    perturbed: jax.Array
    """On test images through the defence's own perturber, if it has one."""
    per_class: jax.Array
    """`[seeds, 2]`, on clean ones."""


def accuracies(
    target: Target,
    split: Split,
    keys: jax.Array,
    make: Callable[[], Release],
    perturber: Perturber | None,
    **options: Any,
) -> Accuracy:
    """Trains once for each key and tests; traceable in what `make` closes over."""

    def one(key: jax.Array) -> Accuracy:
        params = trained(key, target, make(), split.clients, **options)
        test, own = split.test, split.test
        if perturber is not None:
            inputs = perturbed(
                perturber, jax.random.fold_in(key, 1), test.inputs
            ).inputs
            own = Batch(inputs, test.labels)
        assert target.probe is not None
        right = jnp.argmax(target.probe(params, test).logits, 1) == test.labels
        each = jnp.stack(
            [
                jnp.sum(right & (test.labels == k)) / jnp.sum(test.labels == k)
                for k in (0, 1)
            ]
        )
        return Accuracy(right.mean(), accuracy(target, params, own), each)

    return jax.lax.map(one, keys)


def protected(target: Target, *defenses: Any) -> Release:
    """The gradient through defences of updates, the plain one where there is none."""
    plain = gradient(target.loss)
    return protect(plain, *defenses) if defenses else plain
