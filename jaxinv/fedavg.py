"""FedAvg: a client trains for some steps on its own and sends how its weights moved.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017, arXiv 1602.05629. The whole local training is one differentiable
function of the batch, so an attack descends through all of its steps, as Geiping et
al. 2020 (arXiv 2003.14053, section 6) and Dimitrov et al. 2022 (arXiv 2206.12395) do.

A reverse pass needs the weights of every step. Each step is computed again from the
weights it began with, and from more than `_FLAT` steps on those are kept only where a
segment of about sqrt(steps) begins: about 2 sqrt(steps) copies instead of `steps`, for
one more training (Griewank, "Achieving logarithmic growth of temporal and spatial
complexity in reverse automatic differentiation", 1992, with one level).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxinv_kernels.rewrite import rewrite

from jaxinv.errors import InputError
from jaxinv.local_training import LocalTraining
from jaxinv.options import check_positive
from jaxinv.release import Gradient, Release, trained
from jaxinv.target import LossFn, Params, Variables

_FLAT = 8
"""Steps up to which the weights of every one are kept."""


@dataclass(frozen=True)
class FedAvg:
    """The release of `fedavg`; what it sends is a delta of the weights."""

    loss: LossFn
    """`(params, batch) -> scalar`, mean over examples."""
    local: LocalTraining
    """What the client does."""
    route: str = "forward"
    """How each step's gradient is differentiated; see `jaxinv.second_order`."""

    def __call__(self, key: jax.Array, params: Params, batch: Any) -> Any:
        """The weights after training minus those before, as `trained(params)`."""
        index = self.local.indices(key, _num_examples(batch))
        optimizer = optax.with_extra_args_support(self.local.transformation())
        slope, before = Gradient(self.loss, self.route), trained(params)

        def step(carry: Any, mini: Any) -> tuple[Any, None]:
            # The delta is what is carried: beside the weights it would lose digits.
            delta, state = carry
            weights = jax.tree.map(jnp.add, before, delta)
            grads = slope(key, _with(params, weights), mini)
            updates, state = optimizer.update(grads, state, weights)
            return (optax.apply_updates(delta, updates), state), None

        minis = jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], batch)
        start = jax.tree.map(jnp.zeros_like, before), optimizer.init(before)
        return _trained_through(step, start, minis, index.shape[0])[0]


def fedavg(
    loss: LossFn,
    learning_rate: float,
    *,
    local_steps: int | None = None,
    epochs: int = 1,
    batch_size: int | None = None,
    optimizer: str | optax.GradientTransformation = "sgd",
    momentum: float = 0.9,
    order: Any = None,
    route: str = "forward",
    rewritten: bool = True,
) -> FedAvg:
    """Several local steps; the update is the weights after minus the weights before.

    Args:
      loss: `(params, batch) -> scalar`, mean over examples; leaves of the batch have
        the examples on their first axis.
      learning_rate: of every step.
      local_steps: steps in all, cycling through the examples; None for whole epochs.
      epochs: passes over the examples, where `local_steps` is None.
      batch_size: examples of a step, a divisor of all; None is all.
      optimizer: "sgd", "momentum" or "adam" with PyTorch's constants, or an optax
        transformation, which is taken as it is and brings its own step size.
      momentum: of "momentum".
      order: None as the examples lie, "shuffled", or indices `[steps, batch_size]`;
        see `jaxinv.local_training.LocalTraining`.
      route: how an attack differentiates each step's gradient, see
        `jaxinv.second_order.gradient_map`.
      rewritten: as in `jaxinv.release.gradient`.

    Returns:
      A release. Only `.params` of `Variables` is trained; their state stays. The key
      draws the order where it is "shuffled", else nothing.

    Raises:
      InputError: an argument is out of range; when called, the batch size does not
        divide the examples, or `order` points past them.
    """
    local = LocalTraining(
        learning_rate, local_steps, epochs, batch_size, optimizer, momentum, order
    )
    return FedAvg(rewrite(loss) if rewritten else loss, local, route)


@dataclass(frozen=True)
class Aggregated:
    """The release of `aggregated`."""

    release: Release
    """Of each client."""
    clients: int
    """How many there are."""

    @property
    def local(self) -> LocalTraining | None:
        """How each client trains; None for a release without local training."""
        local = getattr(self.release, "local", None)
        return local and replace(local, clients=self.clients)

    def __call__(self, key: jax.Array, params: Params, batch: Any) -> Any:
        """The mean of the clients' updates, as `trained(params)`."""
        own, left = divmod(_num_examples(batch), self.clients)
        if left:
            raise InputError(
                f"clients is {self.clients}; expected a divisor of the "
                f"{own * self.clients + left} examples"
            )

        def divided(leaf: Any) -> jax.Array:
            leaf = jnp.asarray(leaf)
            return leaf.reshape((self.clients, own, *leaf.shape[1:]))

        keys = jax.random.split(key, self.clients)
        one = jax.vmap(self.release, (0, None, 0))
        updates = one(keys, params, jax.tree.map(divided, batch))
        return jax.tree.map(lambda leaf: leaf.mean(0), updates)


def aggregated(release: Release, clients: int) -> Aggregated:
    """Secure aggregation: the server sees the mean of several clients' updates alone.

    Args:
      release: what each client does.
      clients: how many there are; their examples lie one client after the other in
        the batch, as many for each.

    Raises:
      InputError: `clients` is no positive integer; when called, it does not divide
        the examples.
    """
    check_positive("clients", clients)
    return Aggregated(release, clients)


def _trained_through(step: Callable, start: Any, minis: Any, steps: int) -> Any:
    """`step` over all mini-batches, so that a reverse pass holds few weights."""
    if steps == 1:
        return step(start, jax.tree.map(lambda leaf: leaf[0], minis))[0]
    # A scan keeps what it computes again apart from what it computed; no barrier.
    again = jax.checkpoint(step, prevent_cse=False)
    if steps <= _FLAT:
        return jax.lax.scan(again, start, minis)[0]
    length = _segment(steps)
    whole = steps // length * length

    @jax.checkpoint
    def segment(carry: Any, part: Any) -> tuple[Any, None]:
        return jax.lax.scan(again, carry, part)[0], None

    def cut(leaf: jax.Array) -> jax.Array:
        return leaf[:whole].reshape((-1, length, *leaf.shape[1:]))

    carry, _ = jax.lax.scan(segment, start, jax.tree.map(cut, minis))
    if whole < steps:
        carry, _ = segment(carry, jax.tree.map(lambda leaf: leaf[whole:], minis))
    return carry


def _segment(steps: int) -> int:
    """Steps of a segment: near the root, and a divisor where there is one near it."""
    root = math.sqrt(steps)
    near = range(math.ceil(root / 2), math.floor(2 * root) + 1)
    fitting = [n for n in near if steps % n == 0] or [round(root)]
    return min(fitting, key=lambda n: abs(math.log(n / root)))


def _num_examples(batch: Any) -> int:
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(batch)}
    if len(sizes) != 1 or sizes == {()}:
        raise InputError(
            f"batch has leaves with first axes {sorted(sizes)}; expected one number "
            "of examples"
        )
    return sizes.pop()[0]


def _with(params: Params, weights: Any) -> Params:
    """What was sent, with other weights in place of those that are trained."""
    if isinstance(params, Variables):
        return Variables(weights, params.state)
    return weights
