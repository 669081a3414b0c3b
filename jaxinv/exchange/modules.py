"""Modules of a file and of a model, put so that the two can be compared.

A module is a group of arrays with one owner. Both sides are described by PyTorch's
names and shapes of the parts, for the file may be of either library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Shapes = Mapping[str, tuple[int, ...]]

ROLES = {
    "norm": {"weight": "scale", "bias": "bias"}
    | {"running_mean": "mean", "running_var": "var"},
    "embedding": {"weight": "embedding"},
    "linear": {"weight": "kernel", "bias": "bias"},
    "conv": {"weight": "kernel", "bias": "bias"},
}
"""What PyTorch and flax call the parts of a module, by its kind."""


class Module(NamedTuple):
    """A module of either side."""

    path: str
    parts: dict[str, tuple[int, ...]]
    """Shape by the name that the part has in PyTorch."""
    kind: str

    def alike(self) -> tuple:
        """What modules must share to be paired."""
        return self.kind, tuple(sorted(self.parts.items()))


def torch_modules(theirs: Shapes) -> list[Module]:
    """Those of a state dict, in the natural order of their names."""
    groups: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in theirs.items():
        owner, _, part = name.rpartition(".")
        groups.setdefault(owner, {})[part] = tuple(shape)
    modules = []
    for owner in sorted(groups, key=natural):
        parts = groups[owner]
        axes = len(parts.get("weight", ()))
        kind = "other"
        if set(parts) <= {"weight", "bias", "running_mean", "running_var"}:
            kind = {0: "other", 1: "norm", 2: "linear"}.get(axes, "conv")
        modules.append(Module(owner, parts, kind))
    return modules


def flax_modules(ours: Shapes, order: Sequence[str]) -> list[Module]:
    """Those of a model, in the order of its calls as far as that is known."""
    groups: dict[str, dict[str, tuple[int, ...]]] = {}
    for path, shape in ours.items():
        owner, _, leaf = path.partition("/")[2].rpartition("/")
        groups.setdefault(owner, {})[leaf] = tuple(shape)
    place = {path: index for index, path in enumerate(order)}
    modules = []
    for owner in sorted(groups, key=lambda p: (place.get(p, len(place)), natural(p))):
        leaves = groups[owner]
        kind = _flax_kind(leaves)
        back = {ours: theirs for theirs, ours in ROLES.get(kind, {}).items()}
        parts = {back.get(leaf, leaf): shape for leaf, shape in leaves.items()}
        if kind == "linear":
            parts["weight"] = parts["weight"][::-1]
        elif kind == "conv":
            *sides, inputs, outputs = parts["weight"]
            parts["weight"] = (outputs, inputs, *sides)
        modules.append(Module(owner, parts, kind))
    return modules


def _flax_kind(leaves: Mapping[str, tuple[int, ...]]) -> str:
    names, axes = set(leaves), len(leaves.get("kernel", ()))
    if "kernel" in names and names <= {"kernel", "bias"} and axes >= 2:
        return "linear" if axes == 2 else "conv"
    if names and names <= {"scale", "bias", "mean", "var"}:
        return "norm"
    return "embedding" if names == {"embedding"} else "other"


def natural(text: str) -> list:
    """A key that sorts "layer10" behind "layer2"."""
    parts = re.split(r"(\d+)", text)
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts]
