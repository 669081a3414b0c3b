"""Embeddings of candidate types, in batches of fixed shapes.

Candidates are rows of indices into a table of types one level below, so a layer's
linear part is computed once per type and a candidate costs a gather and a sum. Tables
and batches are padded to a few sizes: no program is compiled for one graph alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.attacks.grain.outcome import GaveUp
from jaxinv.attacks.grain.types import Types
from jaxinv.attacks.span import SCREEN_DIRECTIONS, Span, screen
from jaxinv.models.graph_networks.base import GraphModel

BATCH = 1 << 14
"""Candidates in one call of the screen."""
MOST_PASSING = 20_000
"""Candidates that are embedded once more in float64; true ones are some ten."""
SMALL_BATCH = 256
"""Candidates in one call in float64, at all coordinates."""
FLOAT32 = 3e-6
"""Relative rounding of what the screen computes."""


class Embedder:
    """Layer `level` of one model with one set of weights, on a table of types.

    What is tested is a level's row as the next layer is fed it; of the last level that
    is the readout's input, with the features beside it where the model puts them there
    and the constant 1 of the readout's bias.
    """

    def __init__(
        self,
        model: GraphModel,
        params: Any,
        level: int,
        below: Types,
        features: np.ndarray,
    ):
        """For one table of types.

        Args:
          model: the network.
          params: its weights.
          level: the level to make, 1 to `depth`.
          below: the types one level below.
          features: `[T, F]`, their nodes' own normalised features.
        """
        self.model, self.level, self.below = model, level, below
        self.params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        size = bucket(below.num, 16)
        self.rows = np.pad(below.rows, ((0, size - below.num), (0, 0)))
        self.degrees = np.pad(below.degrees, (0, size - below.num))
        self.left = np.zeros((size, 0))
        self.right = np.zeros((size, 0))
        if level == model.depth:
            units = np.zeros((1, 0))
            beside = np.asarray(model.readout_inputs(features[:1], units)).shape[1]
            self.left = np.pad(features[:, :beside], ((0, size - below.num), (0, 0)))
            self.right = np.ones((size, 1))

    def inputs(self, own: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """`[B, D']`, what the next layer sees of nodes with these embeddings."""
        return np.concatenate([self.left[own], rows, self.right[own]], 1)

    def rows_of(self, own: np.ndarray, others: np.ndarray) -> np.ndarray:
        """`[B, D]` float64 embeddings of `[B]` and `[B, K]` indices, -1 for none."""
        whole = _whole(self.model, self.level)
        found = []
        with jax.enable_x64(True):
            table = _table(self.model, self.level)(self.params, self.rows, self.degrees)
            for start in range(0, max(len(own), 1), SMALL_BATCH):
                part = slice(start, start + SMALL_BATCH)
                real = len(own[part])
                a, b = _padded(own[part], others[part], SMALL_BATCH)
                found.append(np.asarray(whole(self.params, table, a, b))[:real])
        return np.concatenate(found)

    def passing(
        self, chunks: Iterator[tuple[np.ndarray, np.ndarray]], whole: Span
    ) -> Types:
        """The candidates whose embedding is in the span.

        Args:
          chunks: of own `[B]` and others `[B, K]`, B at most `BATCH`, K the same in
            all of them and without -1.
          whole: of this level's rows.

        Raises:
          GaveUp: more than `MOST_PASSING` pass the screen.
        """
        program, params, tables = self._screen(whole)
        own, others, rows, width, passed = [], [], [], 0, 0
        for a, b in chunks:
            width, real = b.shape[1], len(a)
            keep = program.test(params, tables, *_padded(a, b, BATCH))
            keep = np.flatnonzero(np.asarray(keep)[:real])
            if not len(keep):
                continue
            passed += len(keep)
            if passed > MOST_PASSING:
                raise GaveUp(
                    "neighbourhoods",
                    f"more than {MOST_PASSING:,} are in the span of level "
                    f"{self.level}, which is too wide to tell them apart",
                )
            found = self.rows_of(a[keep], b[keep])
            inside = whole.excess(self.inputs(a[keep], found)) <= 1
            own.append(a[keep][inside])
            others.append(b[keep][inside])
            rows.append(found[inside])
        if not own:
            none = np.zeros(0, int)
            others = np.zeros((0, width), int)
            return Types(none, others, none, self.rows_of(none, others))
        own, others = np.concatenate(own), np.concatenate(others)
        return Types(own, others, self.below.degrees[own], np.concatenate(rows))

    def rest(
        self, chunks: Iterator[tuple[np.ndarray, np.ndarray]], whole: Span
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Candidates outside the span, and how they are, in the screen's directions.

        Takes what `passing` does; gives own `[b]`, others `[b, K]` and `[b, S]`.
        """
        program, params, tables = self._screen(whole)
        for own, others in chunks:
            batch = _padded(own, others, BATCH)
            rest = np.asarray(program.rest(params, tables, *batch))[: len(own)]
            inside = np.asarray(program.test(params, tables, *batch))[: len(own)]
            yield own[~inside], others[~inside], rest[~inside]

    def _screen(self, whole: Span) -> tuple[_Program, Any, Tables]:
        """The program, its weights and its tables."""
        columns = self._columns(whole)
        program = _screened(self.model, self.level, tuple(columns.tolist()))
        left, right = self.left.shape[1], self.right.shape[1]
        units = left + self.model.coordinates(self.level, columns)
        beside = np.r_[:left, whole.basis.shape[0] - right : whole.basis.shape[0]]
        test = screen(whole, np.r_[units, beside].astype(int))
        fixed = np.concatenate([self.left, self.right], 1)

        def single(x: np.ndarray) -> jax.Array:
            return jnp.asarray(x, jnp.float32)

        params = jax.tree.map(single, self.params)
        tables = Tables(
            program.prepare(params, single(self.rows), jnp.asarray(self.degrees)),
            single(test.outside[: len(units)]),
            single(test.weights[: len(units)]),
            single(fixed @ test.outside[len(units) :]),
            single(fixed @ test.weights[len(units) :]),
            single(np.linalg.norm(fixed, axis=1)),
        )
        return program, params, tables

    def _columns(self, whole: Span) -> np.ndarray:
        """Some of the layer's units, as few as the test needs."""
        every = np.arange(self.model.width)
        per_column = len(self.model.coordinates(self.level, every[:1]))
        need = bucket(whole.rank + 2 * SCREEN_DIRECTIONS, 64) // per_column
        order = np.random.default_rng(0).permutation(self.model.width)
        return np.sort(order[:need])


class Tables(NamedTuple):
    """What the screen of one level looks up."""

    messages: Any
    """Of each type below, at the screen's columns."""
    outside: jax.Array
    """`[C, S]`."""
    weights: jax.Array
    """`[C, W]`."""
    fixed_outside: jax.Array
    """`[N, S]`, the part of what stands beside the units."""
    fixed_weights: jax.Array
    """`[N, W]`."""
    fixed_size: jax.Array
    """`[N]`, its norm."""


def bucket(size: int, smallest: int) -> int:
    """The next power of two, so that few shapes are compiled."""
    return max(smallest, 1 << max(size - 1, 0).bit_length())


def _padded(own: np.ndarray, others: np.ndarray, size: int):
    extra = size - len(own)
    return np.pad(own, (0, extra)), np.pad(others, ((0, extra), (0, 0)))


@functools.lru_cache(maxsize=64)
def _table(model: GraphModel, level: int):
    def prepare(params: Any, rows: jax.Array, degrees: jax.Array) -> Any:
        return model.prepare(params, level, rows, degrees, None)

    return jax.jit(prepare)


@functools.lru_cache(maxsize=64)
def _whole(model: GraphModel, level: int):
    def embed(params: Any, table: Any, own: jax.Array, others: jax.Array) -> jax.Array:
        mine = jax.tree.map(lambda leaf: leaf[own], table)
        around = jax.tree.map(lambda leaf: leaf[others], table)
        present = (others >= 0).astype(jnp.float64)
        return model.combine(params, level, mine, around, present, None)

    return jax.jit(embed)


class _Program:
    """The screen of one layer at some columns."""

    def __init__(self, model: GraphModel, level: int, columns: tuple[int, ...]):
        chosen = np.asarray(columns)

        def prepare(params: Any, rows: jax.Array, degrees: jax.Array) -> Any:
            return model.prepare(params, level, rows, degrees, chosen)

        def cast(
            params: Any, tables: Tables, own: jax.Array, others: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            mine = jax.tree.map(lambda leaf: leaf[own], tables.messages)
            around = jax.tree.map(lambda leaf: leaf[others], tables.messages)
            present = jnp.ones(others.shape, jnp.float32)
            rows = model.combine(params, level, mine, around, present, chosen)
            return rows, rows @ tables.outside + tables.fixed_outside[own]

        def rest(*args: Any) -> jax.Array:
            return cast(*args)[1]

        def test(
            params: Any, tables: Tables, own: jax.Array, others: jax.Array
        ) -> jax.Array:
            rows, rest = cast(params, tables, own, others)
            inside = rows @ tables.weights + tables.fixed_weights[own]
            size = jnp.linalg.norm(rows, axis=-1) + tables.fixed_size[own]
            bound = jnp.linalg.norm(inside, axis=-1) + FLOAT32 * size
            return jnp.linalg.norm(rest, axis=-1) <= bound

        self.prepare = jax.jit(prepare)
        self.rest = jax.jit(rest)
        self.test = jax.jit(test)


@functools.lru_cache(maxsize=64)
def _screened(model: GraphModel, level: int, columns: tuple[int, ...]) -> _Program:
    return _Program(model, level, columns)
