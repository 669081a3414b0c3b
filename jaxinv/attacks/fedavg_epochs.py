"""Data leakage in Federated Averaging: several epochs in an order nobody told.

Dimitrov, Balunovic, Konstantinov and Vechev, "Data Leakage in Federated Averaging",
TMLR 2022 (arXiv 2206.12395). Which examples met in which mini-batch is unknown and
differs from epoch to epoch, so each epoch has examples of its own among the unknowns:
the attacker's training is one long pass over all of them. A prior draws what does not
depend on the order together over the epochs; at the end examples are matched across
epochs and averaged.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jaxinv_kernels.rewrite import rewrite
from optax.assignment import hungarian_algorithm

from jaxinv import matching, priors, space
from jaxinv.attacks import labels as label_rules
from jaxinv.attacks.base import Attack, Reconstruction
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.attacks.optimizers import warmup_cosine
from jaxinv.errors import InputError
from jaxinv.fedavg import FedAvg
from jaxinv.local_training import LocalTraining
from jaxinv.objective import objective
from jaxinv.observation import Observation, require
from jaxinv.space import LabelRule, Space, known_or
from jaxinv.target import Batch, Target


def fedavg_epochs(
    target: Target,
    local: LocalTraining,
    *,
    num_examples: int,
    num_steps: int = 2000,
    labels: LabelRule | None = None,
    optimizer: optax.GradientTransformation | None = None,
    tv: float = 1e-3,
    consistency: float = 0.1,
) -> Attack:
    """The attack on a weight delta of local training in an unknown order.

    Args:
      target: the model.
      local: how the client trained; its order is not used. It has to be what the
        observation grants.
      num_examples: N of the client.
      num_steps: gradient evaluations.
      labels: a rule for the labels, in any order; None uses granted labels, else the
        bias-corrected rule. Each epoch and start puts them in an order of its own.
      optimizer: of the search; None is Adam with a step size of 0.1 that falls along a
        cosine after 50 steps of warm-up.
      tv: weight of the isotropic total variation.
      consistency: weight of `jaxinv.priors.epoch_consistency`.

    Returns:
      An attack whose batch holds N examples, in the order of the first epoch.
      Stats: "epochs", the batch of all epochs before they were averaged.

    Raises:
      InputError: an option is out of range, the steps are no whole epochs, or several
        clients were aggregated; when called, the observation was granted another
        training or number of examples.
    """
    if local.clients != 1:
        raise InputError(
            f"clients is {local.clients}; expected 1, this attack has one order to find"
        )
    any_order = dataclasses.replace(local, order=None)
    steps, size = any_order.shape(num_examples)
    epochs, left = divmod(steps * size, num_examples)
    if left:
        raise InputError(
            f"local_training has {steps} steps of {size} examples; expected whole "
            f"epochs of {num_examples}"
        )
    # One pass over the examples of all epochs is what the client did.
    one_pass = dataclasses.replace(
        any_order, local_steps=None, epochs=1, batch_size=size
    )
    attack = gradient_matching(
        objective(
            FedAvg(rewrite(target.loss), one_pass),
            matching.cosine(),
            priors.weighted(
                (tv, priors.total_variation(inner=2, outer=0.5)),
                (consistency, priors.epoch_consistency(epochs)),
            ),
        ),
        _each_epoch(target, local, num_examples, epochs, labels),
        optimizer or optax.adam(warmup_cosine(0.1, num_steps)),
        num_steps,
    )

    def finish(observation: Observation, state: object) -> Reconstruction:
        found = attack.finish(observation, state)
        merged = merged_epochs(found.batch, epochs)
        return dataclasses.replace(
            found, batch=merged, stats={**found.stats, "epochs": found.batch}
        )

    return attack._replace(finish=finish)


def _each_epoch(
    target: Target,
    local: LocalTraining,
    num_examples: int,
    epochs: int,
    labels: LabelRule | None,
) -> Space:
    """Pixels of every epoch's examples, `[E * N, H, W, C]`, labels in drawn orders."""
    rule = labels or known_or(label_rules.bias_corrected())
    one = space.pixels(target.spec, labels=rule)

    def init(key: jax.Array, observation: Observation):
        granted = require(
            observation,
            "local_training",
            why="the attacker trains as the client did, whatever the order",
        )
        if dataclasses.replace(granted, order=None) != dataclasses.replace(
            local, order=None
        ):
            raise InputError(
                f"local is {local}; expected what the observation grants, {granted}"
            )
        if observation.num_examples != num_examples:
            raise InputError(
                f"num_examples is {num_examples}; the observation has "
                f"{observation.num_examples}"
            )
        key_labels, key_order, *keys = jax.random.split(key, 2 + epochs)
        found = rule(key_labels, observation)
        points = [one.init(k, observation)[0].inputs for k in keys]
        orders = jax.random.split(key_order, epochs)
        shuffled = jax.vmap(jax.random.permutation, (0, None))(orders, found)
        return space.PixelPoint(jnp.concatenate(points), None), shuffled.reshape(-1)

    return one._replace(init=init)


def merged_epochs(batch: Batch, epochs: int) -> Batch:
    """Examples matched across epochs, and the mean of those that belong together.

    Matched are examples of the same label, so that the summed squared distance to the
    first epoch's is least (the Hungarian algorithm).

    Args:
      batch: `[E * N]` examples with integer labels, one epoch after the other, each
        with the same labels in its own order.
      epochs: E.

    Returns:
      `[N]` examples, in the order of the first epoch.
    """
    inputs = batch.inputs.reshape(epochs, -1, *batch.inputs.shape[1:])
    labels = batch.labels.reshape(epochs, -1)

    def like_first(x: jax.Array, y: jax.Array) -> jax.Array:
        axes = tuple(range(2, inputs.ndim))
        cost = jnp.mean((inputs[0][:, None] - x[None]) ** 2, axes)
        # A start that diverged has no order; NaN would keep the search from its end.
        cost = jnp.nan_to_num(cost, nan=0.0, posinf=0.0)
        apart = labels[0][:, None] != y[None]
        rows, columns = hungarian_algorithm(
            cost + jnp.where(apart, 1 + cost.sum(), 0.0)
        )
        return x[columns[jnp.argsort(rows)]]

    mean = jax.vmap(like_first)(inputs, labels).mean(0)
    return Batch(mean, labels[0])
