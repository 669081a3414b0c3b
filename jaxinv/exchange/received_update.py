"""An update that came in, and the observation that it makes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import jax
import numpy as np

from jaxinv.exchange import tree
from jaxinv.exchange.client_file import ClientFile
from jaxinv.exchange.files import read_tensors
from jaxinv.exchange.finding import Finding
from jaxinv.exchange.layout import Layout
from jaxinv.exchange.unnamed import with_names
from jaxinv.fedavg import FedAvg
from jaxinv.local_training import LocalTraining
from jaxinv.observation import Observation, observe
from jaxinv.release import Release, gradient, trained
from jaxinv.target import Moments, Params, Target

Leaves = dict[str, np.ndarray]


@dataclass(frozen=True)
class ReceivedUpdate:
    """An update that came in, and all that is known of it."""

    target: Target
    """The model under attack."""
    observation: Observation
    """What the server has, with what it is said to know."""
    client: ClientFile
    """What was said of the client."""
    local: LocalTraining | None
    """How it trained on the mean loss; None where it sent a gradient."""
    release: Release
    """What it does, without its defences."""
    layout: Layout
    """How the file's tensors became the model's leaves."""
    findings: tuple[Finding, ...]
    """Whether this update can have come from this client."""
    compared: str | None
    """What a comparison with the model in PyTorch found; None without one."""

    def observe_other(self, path: str | os.PathLike[str]) -> Observation:
        """The observation with another client's update in place of this one.

        What is known besides stays that of this client.

        Raises:
          InputError: the file does not fit.
        """
        tensors = with_names(read_tensors(path), self.client.arrays, str(path))
        leaves = self.layout.of_model(tensors, str(path), partial=True)
        return self.observe_leaves(only_trained(leaves))

    def observe_leaves(self, leaves: Mapping[str, np.ndarray]) -> Observation:
        """The observation with another update, trained leaves by path, as they come."""
        seen = self.observation
        return observation_of(
            self.target,
            jax.tree.map(lambda leaf: leaf[0], seen.params),
            leaves,
            self.client,
            self.local,
            seen.known.batch_stats,
        )

    def leaves(self) -> Leaves:
        """What came back, as it would be sent: trained leaves by path."""
        params, update = self.observation.round(0)
        found = {n: np.asarray(v) for n, v in tree.named(update).items()}
        if self.client.sent == "weights":
            before = tree.named(params)
            found = {n: np.asarray(before[n]) + v for n, v in found.items()}
        if self.client.sent == "gradient" and self.client.reduction == "sum":
            found = {n: v * np.float32(self.client.examples) for n, v in found.items()}
        return found


def observation_of(
    target: Target,
    params: Params,
    update: Mapping[str, np.ndarray],
    said: ClientFile,
    local: LocalTraining | None,
    batch_stats: dict[str, Moments] | None,
) -> Observation:
    """What the server has of a client that is described so.

    Args:
      target: the model.
      params: its parameters.
      update: trained leaves by path, as they came.
      said: what is said of the client.
      local: how it trained on the mean loss; see `on_the_mean`.
      batch_stats: moments of its batch by layer, where they follow.
    """
    found = dict(update)
    if said.sent == "gradient" and said.reduction == "sum":
        found = {name: values / said.examples for name, values in found.items()}
    return observe(
        params,
        tree.filled(trained(params), found),
        num_examples=said.examples,
        spec=target.spec,
        labels=None if said.labels is None else np.asarray(said.labels),
        batch_stats=batch_stats,
        sent=said.sent,
        local_training=local,
    )


def on_the_mean(said: ClientFile) -> LocalTraining | None:
    """The training on a mean loss that does what the client's does on its own.

    Adam does not feel a factor in its loss.
    """
    local = said.local
    if local is None or said.reduction == "mean" or local.optimizer == "adam":
        return local
    _, size = local.shape(said.examples)
    return replace(local, learning_rate=local.learning_rate * size)


def release_of(target: Target, local: LocalTraining | None) -> Release:
    """What a client does that trains so; one gradient where it does not train."""
    one = gradient(target.loss)
    return one if local is None else FedAvg(one.loss, local)


def only_trained(leaves: Mapping[str, np.ndarray]) -> Leaves:
    """Of leaves by path those that training changes, in float32."""
    return {
        n: np.asarray(v, np.float32)
        for n, v in leaves.items()
        if n.startswith("params/")
    }
