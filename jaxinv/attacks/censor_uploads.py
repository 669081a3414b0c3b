"""What CENSOR's uploads of one batch at the same weights say of its gradient.

CENSOR (Zhang et al., NDSS 2025, arXiv 2501.15718) sends for every tensor a random one
at a right angle to the gradient's, as long as it. A server that sends the same weights
again to a client that computes on the same batch gets another one: each is a linear
equation `<o, g> = 0` for each tensor. A tensor of d numbers is known, up to its sign,
from d - 1 uploads; fewer are a sketch of it. Ours; not in the paper.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.errors import InputError
from jaxinv.observation import Observation, observe
from jaxinv.target import Params

FAINT = 1e-6
"""A tensor this much shorter than the longest is rounding, and is left out."""


SMALL = 64
"""Of a tensor with this many numbers singular values are cheap."""


class Direction(NamedTuple):
    """A tensor known up to its sign, and what speaks for it."""

    vector: jax.Array
    """`[d]`, of length 1."""
    gap: jax.Array
    """`[]`, the smallest singular value of the uploads but one over the largest: how
    well they determine the vector; 0 where they do not."""
    leftover: jax.Array
    """`[]`, the smallest singular value over that one: about 0 where every upload is at
    a right angle to one vector. Says nothing for d - 1 uploads, where it is 0."""


def observe_repeated(params: Params, updates: Any, **granted: Any) -> Observation:
    """An observation of several uploads of one batch at the same weights, checked.

    Args:
      params: what the server sent each time.
      updates: what came back, leaves `[T, ...]`.
      **granted: the rest of what `jaxinv.observe` takes.

    Returns:
      An observation whose update has leaves `[T, ...]`, and whose params, one for all
      uploads, `[1, ...]`: for attacks that read the weights of the first round, as
      `censor_null_space` and `censor_matching` do.

    Raises:
      InputError: the leaves differ in how many uploads they hold, or hold none, or what
        `observe` refuses.
    """
    counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(updates)}
    if len(counts) != 1 or counts <= {(), (0,)}:
        raise InputError(
            f"updates has leaves of {sorted(counts)} uploads; expected leaves [T, ...] "
            "with one T of 1 or more"
        )
    seen = None
    for index in range(counts.pop()[0]):
        one = jax.tree.map(lambda leaf, i=index: np.asarray(leaf[i]), updates)
        try:
            seen = observe(params, one, **granted)
        except InputError as error:
            raise type(error)(f"upload {index}: {error}") from None
    assert seen is not None
    return dataclasses.replace(seen, update=jax.tree.map(jnp.asarray, updates))


def check_uploads(observation: Observation, who: str) -> None:
    """Refuses what holds no gradients, or not all of them.

    Raises:
      InputError: the observation is a weight delta, or encrypted in part.
    """
    if observation.sent != "gradient":
        raise InputError(
            f"the client sent a {observation.sent}; {who} expected gradients"
        )
    if observation.known.visible is not None:
        raise InputError(
            f"visible hides a part of the update and {who} reads all of it; "
            "expected an observation without visible"
        )


def null_direction(uploads: jax.Array) -> Direction:
    """The direction at a right angle to all uploads.

    Args:
      uploads: `[T, d]` with T of d - 1 or more, d of 2 or more.
    """
    unit = unit_uploads(uploads)
    short = max(0, unit.shape[1] - unit.shape[0])
    _, values, rows = jnp.linalg.svd(
        jnp.pad(unit, ((0, short), (0, 0))), full_matrices=False
    )
    tiny = jnp.finfo(unit.dtype).tiny
    gap = values[-2] / jnp.maximum(values[0], tiny)
    return Direction(rows[-1], gap, values[-1] / jnp.maximum(values[-2], tiny))


def orthonormal(observation: Observation) -> Observation:
    """Uploads that say the same, at right angles to each other.

    They are what an attacker could have been sent as well: of every tensor, as many
    directions as the uploads hold that are independent, each at a right angle to the
    gradient and as long, and zeros for the rest. Where that is all but one, the sum of
    squares over them is the squared sine itself, without the noise of a sketch.

    Args:
      observation: of T uploads.

    Raises:
      InputError: the observation is a weight delta or encrypted in part.
    """
    check_uploads(observation, "orthonormal")
    leaves, structure = jax.tree.flatten(observation.update)
    made, before = [], jnp.zeros(())
    for leaf in leaves:
        # One decomposition after the other: LAPACK's own threads may wait forever.
        leaf, before = jax.lax.optimization_barrier((leaf, before))
        made.append(_independent(leaf))
        before = made[-1].reshape(-1)[0]
    return dataclasses.replace(observation, update=jax.tree.unflatten(structure, made))


def _independent(leaf: jax.Array) -> jax.Array:
    uploads = leaf.reshape(len(leaf), -1)
    count, size = uploads.shape
    if count == 1 or size < 2:
        return leaf
    unit = unit_uploads(uploads)
    if size <= SMALL:
        _, values, rows = jnp.linalg.svd(unit, full_matrices=False)
        # The last of d directions is the gradient's own.
        kept = (values > 1e-4 * values[0]) & (jnp.arange(len(values)) < size - 1)
    else:
        # Squares are much faster to decompose, and what their rounding hides is the
        # little that almost as many uploads as numbers tell at last.
        few = count < size
        square = unit @ unit.T if few else unit.T @ unit
        values, vectors = jnp.linalg.eigh(square)
        kept = values > 1e-5 * values[-1]
        values = jnp.where(kept, values, 1.0)
        # Sums of uploads, so that they are at a right angle to the gradient as those.
        rows = vectors.T @ unit if few else (unit @ vectors).T @ unit
        rows /= (jnp.sqrt(values) if few else values)[:, None]
    rows = jnp.where(kept[:, None], rows, 0.0) * upload_length(uploads)
    return jnp.zeros_like(uploads).at[: len(rows)].set(rows).reshape(leaf.shape)


def unrelated(guess: Any, update: Any) -> tuple[jax.Array, jax.Array]:
    """How far a gradient is from being the one behind CENSOR's uploads.

    For a random upload o of d numbers `(d - 1) <o, g'>^2 / (|o|^2 |g'|^2)` is, in the
    mean over o, the squared sine of the angle between g' and the gradient: uploads are
    a sketch of an ordinary match, which is exact from d - 1 orthonormal ones.

    Args:
      guess: a gradient.
      update: the uploads, leaves `[T, ...]`; an upload of zeros does not count.

    Returns:
      Means over the tensors of that sine, `[]`, 0 for the truth or its negative, about
      1 for a tensor that has nothing to do with it; and of the squared logarithm of the
      ratio of norms, `[]`. Tensors of one number and faint ones are left out.
    """
    pairs = [
        (g.reshape(-1), u.reshape(len(u), -1))
        for g, u in zip(*map(jax.tree.leaves, (guess, update)), strict=True)
        if g.size > 1
    ]
    lengths = [upload_lengths(u) for _, u in pairs]
    longest = jnp.stack([length.max() for length in lengths]).max()
    sines, logs, counted = [], [], []
    for (g, u), each in zip(pairs, lengths, strict=True):
        length, seen = each.max(), jnp.maximum((each > 0).sum(), 1)
        counts = (length > FAINT * longest) & (length > 0)
        guessed = g / jnp.where(counts, length, 1.0)
        size = jnp.sum(guessed**2)
        # A guess without any gradient there is as wrong as an unrelated one.
        there = size > jnp.finfo(size.dtype).tiny
        # Dividing the products and not the uploads: those are read at every step.
        along = jnp.sum((u @ guessed / jnp.where(each > 0, each, 1.0)) ** 2)
        sine = (g.size - 1) / seen * along / jnp.where(there, size, 1.0)
        sine = jnp.where(there, sine, 1.0)
        # Twenty powers of e are wrong enough.
        ratio = 0.5 * jnp.log(jnp.clip(jnp.where(there, size, 1e-16), 1e-16, 1e16))
        sines.append(jnp.where(counts, sine, 0.0))
        logs.append(jnp.where(counts, ratio**2, 0.0))
        counted.append(counts)
    # What is no number says nothing, and must not pass for a tensor of zeros.
    total = jnp.maximum(jnp.stack(counted).sum(), 1)
    total = jnp.where(jnp.isfinite(longest), total, jnp.nan)
    return jnp.stack(sines).sum() / total, jnp.stack(logs).sum() / total


def unit_uploads(uploads: jax.Array) -> jax.Array:
    """`[T, d]` uploads at length 1; those of zeros stay."""
    largest = jnp.max(jnp.abs(uploads), axis=1, keepdims=True)
    scaled = uploads / jnp.where(largest > 0, largest, 1.0)
    sizes = jnp.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled / jnp.where(largest > 0, sizes, 1.0)


def upload_lengths(uploads: jax.Array) -> jax.Array:
    """`[T]`, the lengths of `[T, d]` uploads."""
    largest = jnp.max(jnp.abs(uploads), axis=1)
    scaled = uploads / jnp.where(largest > 0, largest, 1.0)[:, None]
    return largest * jnp.linalg.norm(scaled, axis=1)


def upload_length(uploads: jax.Array) -> jax.Array:
    """`[]`, that of the gradient behind `[T, d]` uploads, any of which has it."""
    return upload_lengths(uploads).max()
