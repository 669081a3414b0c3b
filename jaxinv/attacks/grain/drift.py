"""Several local steps: the weights halfway, and what switched on the way.

The client sends the mean of gradients at weights that drift. The drift is known to
first order: it is the update itself, in equal parts. A layer's gradient is a product of
two things that drift, inputs and slopes; its mean is the product of their means up to
the square of the drift, so the attack works on the mean gradient as on one at the
weights halfway. That does not hold of slopes behind a unit that switched on or off on
the way, in a step that nobody can tell from here: these are not looked at. (Ours.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxinv.attacks.grain.embedding import Embedder, bucket
from jaxinv.attacks.grain.tower import base_index, base_rows
from jaxinv.attacks.grain.types import Types
from jaxinv.local_training import LocalTraining
from jaxinv.models.graph_networks.base import ACTIVATIONS, GraphModel

NEAR = 1.5
"""A unit may have switched where its mean is at most that many times half its way."""
ALIKE = 1e-9
"""Relative size of what a direction adds to the others, below which it is nothing."""


class Drift(NamedTuple):
    """The weights of a client's steps, in float64."""

    first: Any
    """Where it began."""
    middle: Any
    """The mean of where it took gradients, to first order."""
    last: Any
    """Where it took the last one, to first order."""


def drift_of(params: Any, update: Any, local: LocalTraining | None) -> Drift | None:
    """The weights between which a client took its gradients; None for one step.

    Args:
      params: what it was sent.
      update: the mean gradient of its steps.
      local: how it trained; None for one gradient.

    Raises:
      InputError: its optimiser's steps hold no mean gradient.
    """
    if local is None or local.shape(1)[0] == 1:
        return None
    places, shares = local.passage(1)
    travel = local.travel(1)

    def at(place: float) -> Any:
        def moved(before: Any, slope: Any) -> np.ndarray:
            way = place * travel * np.asarray(slope, np.float64)
            return np.asarray(before, np.float64) - way

        return jax.tree.map(moved, params, update)

    return Drift(at(0.0), at(float(places @ shares)), at(float(places[-1])))


def switched(model: GraphModel, drift: Drift, tower: list[Types]) -> np.ndarray:
    """Directions of the slopes at the readout's first layer that are uncertain.

    Args:
      model: the network.
      drift: of its weights.
      tower: types of all levels.

    Returns:
      `[K, Q]` orthonormal.
    """
    if model.readout_activation != "relu":
        return np.zeros((drift.middle["readout"][0]["kernel"].shape[1], 0))
    features = tower[0].rows[base_index(tower)]
    before, after = (_fed(model, p, tower, features) for p in (drift.first, drift.last))
    size = bucket(len(before), 64)
    pad = ((0, size - len(before)), (0, 0))
    with jax.enable_x64(True):
        first = _hidden(drift.first["readout"], np.pad(before, pad))
        last = _hidden(drift.last["readout"], np.pad(after, pad))
    directions = []
    for depth, (a, b) in enumerate(zip(first, last, strict=True)):
        a, b = np.asarray(a)[: len(before)], np.asarray(b)[: len(before)]
        may = np.abs(a + b) <= NEAR * np.abs(a - b)
        units = np.flatnonzero(may.any(0))
        if not depth:
            directions.append(np.eye(a.shape[1])[units])
            continue
        # What a unit of a later layer feels, the first layer feels through those
        # between that are on, which are others for each type.
        back = np.eye(a.shape[1])[units][:, None].repeat(len(a), 1)
        for layer, on in zip(
            reversed(drift.middle["readout"][1 : depth + 1]),
            reversed(first[:depth]),
            strict=True,
        ):
            active = np.asarray(on)[: len(a)] > 0
            back = (back @ np.asarray(layer["kernel"]).T) * active
        directions.append(back.reshape(-1, back.shape[-1]))
    basis, values, _ = np.linalg.svd(np.concatenate(directions).T, full_matrices=False)
    return basis[:, values > ALIKE]


def _fed(
    model: GraphModel, params: Any, tower: list[Types], features: np.ndarray
) -> np.ndarray:
    """`[T, U]`, what the readout is fed of each type with other weights."""
    below = tower[0]
    for level, types in enumerate(tower[1:], 1):
        own = base_rows([*tower[: level - 1], below])
        embedder = Embedder(model, params, level, below, own)
        below = types._replace(rows=embedder.rows_of(types.own, types.others))
    return np.asarray(model.readout_inputs(features, below.rows))


@jax.jit
def _hidden(layers: Any, x: jax.Array) -> list[jax.Array]:
    """`[T, K]` of each hidden layer before its activation."""
    found = []
    for layer in layers[:-1]:
        found.append(x @ layer["kernel"] + layer["bias"])
        x = ACTIVATIONS["relu"](found[-1])
    return found
