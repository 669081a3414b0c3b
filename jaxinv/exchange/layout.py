"""The map between the tensors of a file and the leaves of a JAX model.

One map serves parameters, gradients, deltas and new weights: whatever is laid out as
the parameters are. It only moves numbers, so that it has an inverse and loses nothing.
Layouts after flax, "Convert PyTorch models to Flax":

    linear   [out, in] to [in, out]
    conv     [O, I, kH, kW] to [kH, kW, I, O], and likewise with one or three axes
    flatten  a linear layer behind a flatten: its inputs from (C, H, W) to (H, W, C)
    same     as it is
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxinv.errors import InputError

FORMS = ("same", "linear", "conv", "flatten")


class Pair(NamedTuple):
    """A tensor of the file and the leaf that it is."""

    theirs: str
    """Its name in the file."""
    ours: str
    """Path of the leaf, joined with "/": collection first, such as "params/fc/bias"."""
    form: str = "same"
    """One of `FORMS`."""
    channels: int = 1
    """C of "flatten"."""
    how: str = "name"
    """Why the two were paired: "name", "shape" (no other is like it), "order" (natural
    order of names among those alike) or "table" (a person said so)."""


@dataclass(frozen=True)
class Layout:
    """A map between a file and a model."""

    pairs: tuple[Pair, ...]
    """Every leaf of the model once."""
    dropped: tuple[str, ...] = ()
    """Tensors of the file that no model here has, such as counts of batches."""

    def of_model(
        self, tensors: Mapping[str, np.ndarray], what: str, *, partial: bool = False
    ) -> dict[str, np.ndarray]:
        """Tensors of a file as leaves of the model, by path.

        Args:
          tensors: by their names in the file.
          what: what the file is, for messages.
          partial: whether leaves that are not trained may be missing, as in a file of
            gradients.

        Raises:
          InputError: names are missing or unknown.
        """
        known = {pair.theirs for pair in self.pairs}
        surplus = sorted(tensors.keys() - known - set(self.dropped))
        missing = sorted(
            pair.theirs
            for pair in self.pairs
            if pair.theirs not in tensors
            and not (partial and not pair.ours.startswith("params/"))
        )
        if missing or surplus:
            parts = [f"lacks {', '.join(missing[:3])}"] if missing else []
            parts += [f"has {', '.join(surplus[:3])} besides"] if surplus else []
            raise InputError(
                f"{what} does not hold the tensors of the model: it "
                f"{' and '.join(parts)}"
            )
        return {
            pair.ours: _forward(pair, tensors[pair.theirs])
            for pair in self.pairs
            if pair.theirs in tensors
        }

    def of_file(self, leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The inverse: leaves by path as tensors by their names in the file."""
        return {
            pair.theirs: _backward(pair, leaves[pair.ours])
            for pair in self.pairs
            if pair.ours in leaves
        }

    def check_round_trip(self, tensors: Mapping[str, np.ndarray], what: str) -> None:
        """Maps there and back, and compares bit for bit.

        Raises:
          InputError: a tensor came back different, which the map must not do.
        """
        back = self.of_file(self.of_model(tensors, what, partial=True))
        for name, values in back.items():
            before = np.asarray(tensors[name])
            same = values.shape == before.shape and values.dtype == before.dtype
            if not same or values.tobytes() != before.tobytes():
                raise InputError(
                    f"{what}: tensor {name!r} does not survive the map to the model "
                    "and back; please report this"
                )


def _forward(pair: Pair, values: np.ndarray) -> np.ndarray:
    if pair.form == "linear":
        return values.T
    if pair.form == "conv":
        return np.moveaxis(values, (0, 1), (-1, -2))
    if pair.form == "flatten":
        out, size = values.shape
        maps = values.reshape(out, pair.channels, size // pair.channels)
        return maps.transpose(2, 1, 0).reshape(size, out)
    return values


def _backward(pair: Pair, values: np.ndarray) -> np.ndarray:
    if pair.form == "linear":
        return values.T
    if pair.form == "conv":
        return np.moveaxis(values, (-1, -2), (0, 1))
    if pair.form == "flatten":
        size, out = values.shape
        maps = values.reshape(size // pair.channels, pair.channels, out)
        return maps.transpose(2, 1, 0).reshape(out, size)
    return values
