"""Spans: which inputs a linear layer can have seen, told from its weight gradient.

The gradient of a linear map is inputs^T times something, so with fewer inputs than
units the inputs lie in a low-dimensional space that the gradient shows (Petrov et al.,
"DAGER", NeurIPS 2024, arXiv 2405.15586, Theorem 3.1; Drencheva et al., "GRAIN", ICLR
2025, arXiv 2503.01838, Theorem 3.1). Whoever can enumerate possible inputs tests them.

The published tests compare a distance with a constant. Here the bound follows from the
spectrum: with M = M0 + E, E the rounding, and a true input x = M0 c, what x has outside
the span of M is at most 2 |E| |c|, where |E| is the largest singular value below the
gap and c = pinv(M) x.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

GAP = 10.0
"""Two neighbouring singular values this far apart separate signal from rounding."""
SAFETY = 30.0
"""On the norm of the rounding, instead of 2: the client rounds its inputs as well, and
what is no input exceeds the bound by orders of magnitude."""


class Span(NamedTuple):
    """The space of a layer's inputs, on the host in float64."""

    basis: np.ndarray
    """`[D, r]`, orthonormal."""
    right: np.ndarray
    """`[K, r]`, orthonormal, of the other side."""
    values: np.ndarray
    """`[r]`, singular values, the largest first, of the factors scaled to norm 1."""
    noise: float
    """The largest singular value below the gap, in the same unit; of rounding."""
    scale: float
    """The norm of the first factor, by which it was divided."""
    limit: int
    """`min(D, K)`: with this many independent inputs or more the span is everything."""
    slack: float = 1.0
    """By what the bound is widened, where inputs are said to be a little outside: those
    that the gradient holds only together, as a sum."""

    @property
    def rank(self) -> int:
        """How many independent inputs there are, r."""
        return len(self.values)

    @property
    def bound(self) -> float:
        """What a true input may have outside for each unit of c."""
        return SAFETY * self.slack * self.noise

    @property
    def gap(self) -> float:
        """The smallest value above the gap over the largest below."""
        return float(self.values[-1] / self.noise) if self.rank else 0.0

    @property
    def identifiable(self) -> bool:
        """Whether there is a gap at all, and room outside the span.

        One value below the gap would be none to measure the rounding by: the last of a
        square spectrum is small by chance.
        """
        return 0 < self.rank < self.limit - 1 and self.gap >= GAP

    def above(self, floor: float) -> Span:
        """The span with what is below a share of the largest value called noise.

        Args:
          floor: the share, 0 for none. Where no wide gap is above it the span stays
            as it is.
        """
        if not self.rank or not floor:
            return self
        noise = floor * self.values[0]
        values = np.maximum(np.append(self.values, self.noise), noise)
        gaps = np.flatnonzero(values[:-1] / values[1:] >= GAP)
        rank = int(gaps[-1]) + 1 if len(gaps) else self.rank
        return self._replace(
            basis=self.basis[:, :rank],
            right=self.right[:, :rank],
            values=self.values[:rank],
            noise=float(values[rank]),
        )

    def excess(self, rows: np.ndarray) -> np.ndarray:
        """How far rows are outside, in units of what rounding explains.

        Args:
          rows: `[..., D]`.

        Returns:
          `[...]`, at most 1 for the true inputs.
        """
        return self._excess(rows, self.basis)

    def right_excess(self, rows: np.ndarray) -> np.ndarray:
        """As `excess`, for `[..., K]` rows of the other side."""
        return self._excess(rows, self.right)

    def _excess(self, rows: np.ndarray, basis: np.ndarray) -> np.ndarray:
        inside = rows @ basis
        outside = np.linalg.norm(rows - inside @ basis.T, axis=-1)
        size = np.linalg.norm(rows, axis=-1)
        bound = self.bound * np.linalg.norm(inside / self.values, axis=-1)
        return outside / np.maximum(bound + FLOAT64 * size, np.finfo(float).tiny)


FLOAT64 = 1e-11
"""Relative rounding of what is computed in float64 here."""


def span(factors: Sequence[jax.Array | np.ndarray]) -> Span:
    """The common span of the columns of `[D, K_i]` matrices, each scaled to norm 1.

    Stacking gradients of layers that share their inputs keeps the rank where one of
    them alone has lost it.
    """
    held = [np.asarray(factor) for factor in factors]
    eps = max(float(jnp.finfo(factor.dtype).eps) for factor in held)
    norms = [float(np.linalg.norm(factor.astype(np.float64))) for factor in held]
    pairs = zip(held, norms, strict=True)
    scaled = [factor.astype(np.float64) / (norm or 1.0) for factor, norm in pairs]
    # On the host: once per gradient, and JAX 0.10's float64 SVD on CPU returns NaN for
    # some matrices of low rank.
    left, values, right = np.linalg.svd(np.concatenate(scaled, 1), full_matrices=False)
    rank = spectral_rank(values, eps)
    limit = min(left.shape[0], right.shape[1])
    below = values[rank] if rank < len(values) else 0.0
    noise = max(float(below), float(values[0]) * eps / 16 if len(values) else 0.0)
    return Span(left[:, :rank], right[:rank].T, values[:rank], noise, norms[0], limit)


def spectral_rank(values: np.ndarray, eps: float) -> int:
    """How many singular values are above the rounding: those before the last wide gap.

    The last, not the widest: signal may have gaps of its own, rounding has none once
    what is far below the precision of the input is clipped.

    Args:
      values: `[R]`, the largest first.
      eps: of the type that the matrix came in.

    Returns:
      0 for a matrix of zeros, R where no gap is found.
    """
    if not len(values) or values[0] <= 0:
        return 0
    clipped = np.maximum(values / values[0], eps / 16)
    gaps = np.flatnonzero(clipped[:-1] / clipped[1:] >= GAP)
    return int(gaps[-1]) + 1 if len(gaps) else len(values)


class Screen(NamedTuple):
    """A cheap form of the test, of a few coordinates, for millions of candidates."""

    columns: np.ndarray
    """`[C]`, which coordinates of an input are computed at all."""
    outside: np.ndarray
    """`[C, S]`, directions in which a true input has nothing."""
    weights: np.ndarray
    """`[C, C]`, to c, times the bound's factor; padded with zero columns."""


SCREEN_DIRECTIONS = 16
"""S. A random non-member has 1 - r/C of its length outside, spread over all."""


def screen(whole: Span, columns: np.ndarray) -> Screen:
    """The test on some coordinates alone: a part of M is a gradient of that part.

    Args:
      whole: the span of all coordinates.
      columns: `[C]` coordinates, C at least rank + `SCREEN_DIRECTIONS`.
    """
    part = (whole.basis * whole.values)[columns]
    left, values, _ = np.linalg.svd(part, full_matrices=True)
    rank = min(whole.rank, len(values))
    weights = np.zeros((len(columns), len(columns)))
    weights[:, :rank] = whole.bound * left[:, :rank] / values[:rank]
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(left.shape[1] - rank, SCREEN_DIRECTIONS))
    outside = left[:, rank:] @ np.linalg.qr(mix)[0]
    return Screen(columns, outside, weights)
