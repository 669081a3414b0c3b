"""What an attack recovered, held against the client's own data, on the client."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv import metrics
from jaxinv.errors import InputError
from jaxinv.target import Batch, Spec


class Judgement(NamedTuple):
    """How near an attack came to a client's images."""

    psnr: list[float]
    """`[N]` dB, in the order of the truth; NaN where the guess is not finite."""
    ssim: list[float]
    """`[N]`, likewise; NaN where the images are smaller than its window."""
    identified: float
    """The share of guesses that are nearer their original than any other image of the
    pool; NaN where the pool holds one image alone."""
    chance: float
    """That share by guessing: one over the images of the pool."""


def judge(
    spec: Spec, truth: Batch, found: Batch, pool: jax.Array | np.ndarray | None = None
) -> Judgement:
    """Compares a guess with the truth.

    Args:
      spec: for its normalisation.
      truth: the client's batch, inputs `[N, H, W, C]`, normalised.
      found: the attack's guess, in any order.
      pool: `[M, H, W, C]` other inputs that a guess could be taken for, none of the
        batch among them; normalised likewise.

    Raises:
      InputError: the truth has another shape than the spec says.
    """
    true = jnp.asarray(truth.inputs)
    if true.shape != jnp.shape(found.inputs):
        raise InputError(
            f"truth has inputs of shape {true.shape}; expected "
            f"{jnp.shape(found.inputs)}, the examples that were attacked"
        )
    others = true[:0] if pool is None else jnp.asarray(pool)
    psnr, ssim, rank = _compared(spec, true, jnp.asarray(found.inputs), others)
    num = len(true) + len(others)
    share = float("nan") if num == 1 else float(np.mean(np.asarray(rank) == 0))
    return Judgement(
        np.asarray(psnr).tolist(), np.asarray(ssim).tolist(), share, 1 / num
    )


def _compared(spec: Spec, true: jax.Array, found: jax.Array, others: jax.Array):
    true, found, others = (spec.denormalise(x) for x in (true, found, others))
    guess = found[metrics.align(true, found)]
    pool = jnp.concatenate([true, others])
    rank = metrics.identifiability(guess, pool, jnp.arange(len(true)))
    psnr = metrics.psnr(true, guess)
    # Images smaller than the window have no structural similarity.
    small = min(true.shape[1:3]) < 11
    ssim = jnp.full_like(psnr, jnp.nan) if small else metrics.ssim(true, guess)
    return psnr, ssim, rank


# One program instead of one for each small operation; it is run, not differentiated.
_compared = jax.jit(_compared, static_argnums=0)
