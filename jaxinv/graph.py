"""Graphs: what a client of a graph network holds, and what its features mean."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxinv.errors import InputError, nearest

TASKS = ("graph", "node")
"""One label for the whole graph, or one for every node."""


class Graph(NamedTuple):
    """One graph, perhaps padded: a client's secret, or a guess at it."""

    features: Any
    """`[n, F]`, zeros and ones as in the vocabulary, not normalised."""
    adjacency: Any
    """`[n, n]`, symmetric, zeros and ones, no self loops; zeros in padding."""
    mask: Any
    """`[n]` floats, 1 for a node and 0 for padding, which comes last."""
    labels: Any
    """`[]` integer for a graph task, `[n]` integers for a node task."""

    @property
    def num_nodes(self) -> int:
        """Without the padding. On the host only."""
        return int(np.asarray(self.mask).sum())


@dataclass(frozen=True)
class FeatureGroup:
    """Neighbouring feature columns that are read together.

    Attributes:
      name: such as "element".
      size: how many columns.
      exclusive: whether a node has exactly one of them (one-hot), or any number.
    """

    name: str
    size: int
    exclusive: bool = True


@dataclass(frozen=True)
class GraphSpec:
    """What a node looks like and what is predicted. Hashable, so static.

    Attributes:
      groups: of feature columns, in their order.
      num_classes: C.
      task: one of `TASKS`.
      degree: name of the group that one-hot encodes the number of neighbours
        (column d for d neighbours), or None.
      mean: per column, subtracted from features.
      std: per column, divided by afterwards; a column of 0 never varies in the
        public data and becomes 0.
    """

    groups: tuple[FeatureGroup, ...]
    num_classes: int
    task: str = "graph"
    degree: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if (
            not isinstance(self.groups, tuple)
            or not self.groups
            or not all(isinstance(group, FeatureGroup) for group in self.groups)
            or not all(_is_positive(group.size) for group in self.groups)
        ):
            raise InputError(
                f"groups is {self.groups!r}; expected a tuple of FeatureGroups of one "
                "column or more"
            )
        if not _is_positive(self.num_classes):
            raise InputError(
                f"num_classes is {self.num_classes!r}; expected an integer >= 1"
            )
        if self.task not in TASKS:
            raise InputError(f"task is {self.task!r}; expected one of {TASKS}")
        names = {group.name: group for group in self.groups}
        if self.degree is not None:
            if self.degree not in names:
                raise InputError(
                    f"degree is {self.degree!r}; {nearest(self.degree, names)}"
                )
            if not names[self.degree].exclusive:
                raise InputError(f"degree group {self.degree!r} is not exclusive")
        try:
            mean = tuple(map(float, self.mean)) or (0.0,) * self.num_features
            std = tuple(map(float, self.std)) or (1.0,) * self.num_features
        except (TypeError, ValueError):
            raise InputError(
                "mean or std is not of numbers; expected one for each feature column"
            ) from None
        for name, value in (("mean", mean), ("std", std)):
            if len(value) != self.num_features:
                raise InputError(
                    f"{name} has {len(value)} entries; expected {self.num_features}, "
                    "one for each feature column"
                )
            if not np.isfinite(value).all() or (name == "std" and min(value) < 0):
                raise InputError(f"{name} holds values that no column can have")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)

    @property
    def num_features(self) -> int:
        """F."""
        return sum(group.size for group in self.groups)

    def columns(self, name: str) -> slice:
        """Where a group's columns are."""
        ends = list(itertools.accumulate(group.size for group in self.groups))
        for group, end in zip(self.groups, ends, strict=True):
            if group.name == name:
                return slice(end - group.size, end)
        known = [group.name for group in self.groups]
        raise InputError(f"group is {name!r}; {nearest(name, known)}")

    def normalise(self, features: Any) -> Any:
        """`[..., F]` features to what a model is fed; NumPy in, NumPy out."""
        scale = np.asarray([1 / s if s > 0 else 0.0 for s in self.std])
        mean = np.asarray(self.mean)
        if isinstance(features, jax.Array):
            scale, mean = scale.astype(features.dtype), mean.astype(features.dtype)
        return (features - mean) * scale

    def denormalise(self, rows: np.ndarray) -> np.ndarray:
        """`[..., F]` of `normalise` back to float32 zeros and ones, on the host.

        A column that never varies is that of the public data.
        """
        return np.round(rows * np.asarray(self.std) + self.mean).astype(np.float32)

    def degrees(self, features: np.ndarray) -> np.ndarray:
        """`[...]` the degree that `[..., F]` features state.

        Raises:
          InputError: they state none.
        """
        if self.degree is None:
            raise InputError("degree is None; these features do not state it")
        return np.asarray(features)[..., self.columns(self.degree)].argmax(-1)

    def measured(self, graphs: Sequence[Graph]) -> GraphSpec:
        """This spec with mean and std over all nodes of public graphs."""
        rows = np.concatenate([real(g).features for g in graphs]).astype(np.float64)
        mean, std = (tuple(part.tolist()) for part in (rows.mean(0), rows.std(0)))
        return dataclasses.replace(self, mean=mean, std=std)


def _is_positive(value: Any) -> bool:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return bool(whole and value >= 1)


class Domain(NamedTuple):
    """What is known of graphs beside the vocabulary of their features."""

    node: Callable[[np.ndarray], np.ndarray] | None = None
    """`(features [N, F]) -> [N] bool`, which rows a node can have."""
    cost: Callable[[Graph], float] | None = None
    """How unlikely a graph is among those with one gradient; infinite: impossible."""
    ring: Callable[[int], float] | None = None
    """What a ring of so many nodes adds to that, for a search to meet likely graphs
    first; never below 0."""
    piece: float = 0.0
    """The same of every piece beside the first."""


ANY = Domain()
"""Nothing is known."""


def graph(
    features: Any, adjacency: Any, labels: Any, spec: GraphSpec | None = None
) -> Graph:
    """A graph without padding, checked, as NumPy arrays.

    Args:
      features: `[n, F]`, zeros and ones.
      adjacency: `[n, n]`, zeros and ones, symmetric, no self loops.
      labels: an integer, or `[n]` integers for a node task.
      spec: if given, features, labels and stated degrees must agree with it.

    Raises:
      InputError: names the argument and what is wrong with it.
    """
    features = np.asarray(features, np.float32)
    adjacency = np.asarray(adjacency, np.float32)
    labels = np.asarray(labels)
    if features.ndim != 2 or len(features) < 1:
        raise InputError(f"features has shape {features.shape}; expected [n, F]")
    n = len(features)
    if adjacency.shape != (n, n):
        raise InputError(f"adjacency has shape {adjacency.shape}; expected ({n}, {n})")
    for name, value in (("features", features), ("adjacency", adjacency)):
        if not np.isin(value, (0, 1)).all():
            raise InputError(f"{name} holds values other than 0 and 1")
    if (adjacency != adjacency.T).any():
        raise InputError("adjacency is not symmetric; directed graphs are not covered")
    if np.diag(adjacency).any():
        raise InputError("adjacency has self loops; the model adds its own")
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels is {labels.dtype}; expected integers")
    if spec is not None:
        _check_against(spec, features, adjacency, labels)
    return Graph(features, adjacency, np.ones(n, np.float32), labels.astype(np.int32))


def _check_against(
    spec: GraphSpec, features: np.ndarray, adjacency: np.ndarray, labels: np.ndarray
) -> None:
    if features.shape[1] != spec.num_features:
        raise InputError(
            f"features has {features.shape[1]} columns; expected {spec.num_features}"
        )
    for group in spec.groups:
        counts = features[:, spec.columns(group.name)].sum(1)
        if group.exclusive and (counts != 1).any():
            node = int((counts != 1).argmax())
            raise InputError(
                f"features of node {node} have {int(counts[node])} ones in group "
                f"{group.name!r}; expected exactly one"
            )
    if spec.degree is not None:
        stated, found = spec.degrees(features), adjacency.sum(1)
        if (stated != found).any():
            node = int((stated != found).argmax())
            raise InputError(
                f"features of node {node} state degree {int(stated[node])}; adjacency "
                f"has {int(found[node])}"
            )
    shape = () if spec.task == "graph" else (len(features),)
    if labels.shape != shape:
        raise InputError(f"labels has shape {labels.shape}; expected {shape}")
    if labels.min() < 0 or labels.max() >= spec.num_classes:
        raise InputError(f"labels goes beyond the {spec.num_classes} classes")


def padded(graph: Graph, num_nodes: int) -> Graph:
    """The graph with rows of padding up to `num_nodes`, as NumPy arrays.

    Raises:
      InputError: it has more nodes than that.
    """
    graph = real(graph)
    n = len(graph.mask)
    if n > num_nodes:
        raise InputError(f"graph has {n} nodes; expected at most {num_nodes}")
    extra = num_nodes - n
    return Graph(
        np.pad(graph.features, ((0, extra), (0, 0))),
        np.pad(graph.adjacency, ((0, extra), (0, extra))),
        np.pad(graph.mask, (0, extra)),
        np.pad(graph.labels, (0, extra)) if np.ndim(graph.labels) else graph.labels,
    )


def real(graph: Graph) -> Graph:
    """The graph without its padding, as NumPy arrays."""
    n = graph.num_nodes
    features, adjacency, mask, labels = map(np.asarray, graph)
    labels = labels[:n] if labels.ndim else labels
    return Graph(features[:n], adjacency[:n, :n], mask[:n], labels)
