"""How many edges there are between nodes of each two types, from the first layer.

A node's type of the last level says how its neighbours look one level below, not which
of several types with that look each of them has. The first layer's gradient does: with
two layers it is a sum over nodes and over ordered pairs of neighbours of vectors that
both their types determine, so the numbers of edges between types solve a linear system.
(Ours.) A search for graphs that knows them wastes no time on others.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.attacks.grain.assembly import kinds
from jaxinv.attacks.grain.embedding import bucket
from jaxinv.attacks.grain.lattice import Lattice, solutions
from jaxinv.attacks.grain.multiplicities import Counts, node_slopes
from jaxinv.attacks.grain.outcome import GaveUp
from jaxinv.attacks.grain.types import Types
from jaxinv.models.graph_networks.base import GraphModel

BUCKETS = 4096
"""Entries that a gradient is folded into; of random sums of random signs."""
AT_ONCE = 16
"""Vectors in one call."""
ROUNDING = 1e-4
"""Relative rest of the gradient that the numbers may leave."""


class EdgeCounts(NamedTuple):
    """Edges between kinds of nodes."""

    pairs: list[tuple[int, int]]
    """`[P]` pairs of kinds that may be neighbours, numbered as `assembly.kinds` does,
    the smaller first."""
    numbers: np.ndarray
    """`[S, P]`, every possibility for the numbers of edges between them."""


def edge_counts(
    model: GraphModel,
    params: Any,
    update: Any,
    tower: list[Types],
    counts: Counts,
    until: float,
) -> EdgeCounts | None:
    """All numbers of edges that the gradient allows, or None where it cannot be said.

    Args:
      model: the network, of two layers.
      params: its weights.
      update: the gradient.
      tower: types of levels 0 to 2.
      counts: the nodes.
      until: when to give up, on the monotonic clock.
    """
    if model.depth != 2:
        return None
    nodes, blocks, last = tower
    kind_of = kinds(counts)
    times = np.bincount(kind_of)
    _, first = np.unique(kind_of, return_index=True)
    types, labels = counts.types[first], counts.labels[first]
    slopes = _slopes_of(model, params, update, tower, types, labels) / len(kind_of)
    own, around = _back(model, params, blocks, last, types, slopes)
    # Who may be whose neighbour, and in which slot of the second the first is.
    look = last.own[types]
    columns: dict[tuple[int, int], int] = {}
    rows: list[tuple[int, int, int]] = []  # kind, its neighbour's kind, slot of that
    for i, t in enumerate(types):
        for k, s in enumerate(types):
            slots = np.flatnonzero(last.others[s] == look[i])
            if len(slots) and (last.others[t] == look[k]).any():
                rows.append((i, k, int(slots[0])))
                columns.setdefault((min(i, k), max(i, k)), len(columns))
    if not rows:
        return EdgeCounts([], np.zeros((1, 0)))
    cotangents = np.concatenate(
        [own, np.stack([around[k, slot] for _, k, slot in rows])]
    )
    where = np.concatenate([look, look[[i for i, _, _ in rows]]])
    folded = _folded(model, params, nodes, blocks, where, cotangents)
    seen = _fold(jax.tree.map(np.asarray, update["layers"][0]))
    goal = seen - times @ folded[: len(types)]
    matrix = np.zeros((BUCKETS, len(columns)))
    for (i, k, _), vector in zip(rows, folded[len(types) :], strict=True):
        # An edge between two of a kind is an ordered pair in both directions.
        matrix[:, columns[min(i, k), max(i, k)]] += vector * (2 if i == k else 1)
    size = np.linalg.norm(seen)
    ends, wanted = _ends(last, types, look, times, columns)
    scale = np.linalg.norm(matrix) / max(np.linalg.norm(ends), 1.0)
    whole = np.concatenate([matrix, scale * ends])
    right = np.concatenate([goal, scale * wanted])
    total = int(wanted.sum()) // 2
    base, free = solutions(*_small(whole, right / total), ROUNDING)
    try:
        numbers = Lattice(base, free, until).points(total)
    except GaveUp:
        return None
    off = np.linalg.norm(numbers @ matrix.T - goal, axis=1)
    good = (off < ROUNDING * size) & ~(numbers @ ends.T != wanted).any(1)
    if not good.any():
        return None
    return EdgeCounts(list(columns), numbers[good])


def _small(matrix: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same least-squares problem, of as many rows as columns."""
    q, r = np.linalg.qr(matrix)
    return r, q.T @ right


def _ends(
    last: Types,
    types: np.ndarray,
    look: np.ndarray,
    times: np.ndarray,
    columns: dict[tuple[int, int], int],
) -> tuple[np.ndarray, np.ndarray]:
    """Equations: a kind has as many ends at each look as its nodes expect."""
    equations, wanted = [], []
    for i, t in enumerate(types):
        for value in np.unique(last.others[t][last.others[t] >= 0]):
            row = np.zeros(len(columns))
            for k in np.flatnonzero(look == value).tolist():
                column = columns.get((min(i, k), max(i, k)))
                if column is not None:
                    row[column] += 2 if i == k else 1
            equations.append(row)
            wanted.append(times[i] * (last.others[t] == value).sum())
    return np.array(equations), np.array(wanted, float)


def _slopes_of(
    model: GraphModel,
    params: Any,
    update: Any,
    tower: list[Types],
    types: np.ndarray,
    labels: np.ndarray,
) -> np.ndarray:
    """`[kinds, D]`, the slope of the loss by the last level, times the nodes."""
    last = tower[-1]
    base = tower[1].own[last.own]
    fed = np.asarray(model.readout_inputs(tower[0].rows[base[types]], last.rows[types]))
    entries, slopes = node_slopes(model, params, update, fed)
    chosen = np.zeros(len(types), int)
    for i, label in enumerate(labels):
        chosen[i] = np.flatnonzero((entries.types == i) & (entries.labels == label))[0]
    kernel = np.asarray(params["readout"][0]["kernel"], np.float64)
    return slopes[chosen] @ kernel[-last.rows.shape[1] :].T


def _back(
    model: GraphModel,
    params: Any,
    blocks: Types,
    last: Types,
    types: np.ndarray,
    slopes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """What a slope at the last level is one level below.

    Returns:
      `[kinds, D]` at the node itself and `[kinds, K, D]` at its neighbours.
    """
    own, others = last.own[types], last.others[types]
    size = bucket(len(types), 16)
    width = bucket(max(others.shape[1], 1), 4)
    extra = size - len(types)
    others = np.pad(
        others, ((0, extra), (0, width - others.shape[1])), constant_values=-1
    )
    own = np.pad(own, (0, extra))
    present = (others >= 0).astype(np.float64)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
        mine, around = _back_program(model)(
            wide,
            blocks.rows[own],
            blocks.rows[others],
            blocks.degrees[own],
            blocks.degrees[others],
            present,
            np.pad(slopes, ((0, extra), (0, 0))),
        )
    return np.asarray(mine)[: len(types)], np.asarray(around)[: len(types)]


def _star(model: GraphModel, level: int):
    """A layer at one node: `(params, row, rows, degree, degrees, present) -> row`."""

    def star(params, own, others, degree, degrees, present):
        rows = jnp.concatenate([own[None], others])
        every = jnp.concatenate([degree[None], degrees])
        messages = model.prepare(params, level, rows, every, None)
        mine = jax.tree.map(lambda leaf: leaf[0], messages)
        around = jax.tree.map(lambda leaf: leaf[1:], messages)
        return model.combine(params, level, mine, around, present, None)

    return star


@functools.lru_cache(maxsize=16)
def _back_program(model: GraphModel):
    star = _star(model, 2)

    def back(params, own, others, degree, degrees, present, slope):
        _, pull = jax.vjp(
            lambda a, b: star(params, a, b, degree, degrees, present), own, others
        )
        return pull(slope)

    return jax.jit(jax.vmap(back, (None, 0, 0, 0, 0, 0, 0)))


def _folded(
    model: GraphModel,
    params: Any,
    nodes: Types,
    blocks: Types,
    where: np.ndarray,
    cotangents: np.ndarray,
) -> np.ndarray:
    """`[V, BUCKETS]`: the first layer's gradient from a slope at level 1, folded."""
    found = []
    width = bucket(max(blocks.others.shape[1], 1), 4)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
        program = _fold_program(model)
        for start in range(0, len(where), AT_ONCE):
            part = where[start : start + AT_ONCE]
            real = len(part)
            part = np.pad(part, (0, AT_ONCE - real))
            own, others = blocks.own[part], blocks.others[part]
            others = np.pad(
                others, ((0, 0), (0, width - others.shape[1])), constant_values=-1
            )
            slope = np.zeros((AT_ONCE, cotangents.shape[1]))
            slope[:real] = cotangents[start : start + real]
            folded = program(
                wide,
                nodes.rows[own],
                nodes.rows[others],
                nodes.degrees[own],
                nodes.degrees[others],
                (others >= 0).astype(np.float64),
                slope,
            )
            found.append(np.asarray(folded)[:real])
    return np.concatenate(found)


@functools.lru_cache(maxsize=16)
def _fold_program(model: GraphModel):
    star = _star(model, 1)

    def one(params, own, others, degree, degrees, present, slope):
        def first(layer):
            whole = {**params, "layers": [layer, *params["layers"][1:]]}
            return star(whole, own, others, degree, degrees, present)

        (gradient,) = jax.vjp(first, params["layers"][0])[1](slope)
        return _fold(gradient)

    def every(params, *rest):
        return jax.lax.map(lambda row: one(params, *row), rest)

    return jax.jit(every)


def _fold(layer: Any) -> Any:
    """`[BUCKETS]`, every entry into a random place with a random sign."""
    flat = [leaf.reshape(-1) for leaf in jax.tree.leaves(layer)]
    rng = np.random.default_rng(0)
    size = sum(len(leaf) for leaf in flat)
    places, signs = rng.integers(BUCKETS, size=size), rng.choice((-1.0, 1.0), size)
    if isinstance(flat[0], np.ndarray):
        values = np.concatenate(flat).astype(np.float64)
        return np.bincount(places, weights=values * signs, minlength=BUCKETS)
    values = jnp.concatenate(flat)
    return jnp.zeros(BUCKETS, values.dtype).at[places].add(values * signs)
