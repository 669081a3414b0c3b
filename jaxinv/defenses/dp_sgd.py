"""DP-SGD: every example's gradient is clipped, and noise is added to their sum.

Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv 1607.00133,
Algorithm 1. What a round costs in privacy is counted by Google's `dp-accounting`
(pip install 'jaxinv[privacy]'), Poisson sampling, neighbours by adding or removing one
example, Renyi orders as it chooses them (Mironov 2017; Mironov et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxinv.defenses.checks import check_strength
from jaxinv.defenses.clipping import clipping
from jaxinv.defenses.noise import gaussian_noise
from jaxinv.defenses.protection import keyed
from jaxinv.errors import InputError
from jaxinv.options import check_positive
from jaxinv.release import Release, trained
from jaxinv.target import Params

NOISE_MULTIPLIER = 1.0
"""Where none is given."""


@dataclass(frozen=True)
class DPSGD:
    """The release of `dp_sgd`."""

    release: Release
    """What the client would send, the mean of what its examples would send alone."""
    clip: float
    noise_multiplier: float

    @property
    def local(self) -> None:
        """It sends a gradient."""
        return None

    def __call__(self, key: jax.Array, params: Params, batch: Any) -> Any:
        """The noisy mean of clipped gradients, as `trained(params)`."""
        own, drawn = jax.random.split(key)
        bound, weights = clipping(self.clip), trained(params)
        nothing = bound.init(weights)
        batch = jax.tree.map(jnp.asarray, batch)
        num = len(jax.tree.leaves(batch)[0])

        def add(total: Any, example: tuple[jax.Array, Any]) -> tuple[Any, None]:
            key, alone = example[0], jax.tree.map(lambda leaf: leaf[None], example[1])
            update = self.release(key, params, alone)
            clipped = bound.update(update, nothing, weights)[0]
            return jax.tree.map(jnp.add, total, clipped), None

        # One after the other: memory is that of one gradient, whatever the batch.
        each = jax.random.split(own, num), batch
        total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, weights), each)
        if self.noise_multiplier:
            noise = gaussian_noise(self.clip * self.noise_multiplier)
            total = noise.update(total, keyed(noise.init(weights), drawn), weights)[0]
        return jax.tree.map(lambda leaf: leaf / num, total)


def dp_sgd(
    release: Release, *, clip: float = 1.0, noise_multiplier: float = NOISE_MULTIPLIER
) -> DPSGD:
    """The release of one DP-SGD step.

    Args:
      release: a gradient, mean over examples; leaves of the batch have the examples on
        their first axis.
      clip: the largest norm of one example's gradient.
      noise_multiplier: deviation of the noise on the sum, over `clip`.

    Raises:
      InputError: an argument is negative or no number, or the client trains by itself:
        what bounds an example's share in one step does not in several.
    """
    if getattr(release, "local", None) is not None:
        raise InputError(
            f"release is {type(release).__name__}, local training; dp_sgd expected one "
            "that sends a gradient"
        )
    check_strength("clip", clip)
    check_strength("noise_multiplier", noise_multiplier)
    if clip == float("inf") and noise_multiplier:
        raise InputError("clip is inf; expected a finite one, which noise is scaled by")
    return DPSGD(release, clip, noise_multiplier)


def epsilon(
    noise_multiplier: float,
    *,
    sampling_rate: float | None,
    rounds: int,
    delta: float,
) -> float:
    """What so many rounds of DP-SGD spend, the epsilon of (epsilon, delta)-privacy.

    Args:
      noise_multiplier: as in `dp_sgd`.
      sampling_rate: the chance of an example to be in a round's batch, in (0, 1].
      rounds: how many.
      delta: in (0, 1), below one over the number of examples.

    Returns:
      Epsilon; infinite without noise.

    Raises:
      InputError: an argument is missing or out of range, or dp-accounting is not
        installed.
    """
    check_strength("noise_multiplier", noise_multiplier)
    check_positive("rounds", rounds)
    if sampling_rate is None:
        raise InputError(
            "sampling_rate is None; epsilon expects the share of all examples that a "
            "round takes"
        )
    for name, value in (("sampling_rate", sampling_rate), ("delta", delta)):
        check_strength(name, value, most=1.0)
        if not value:
            raise InputError(f"{name} is {value!r}; expected more than 0")
    if not noise_multiplier:
        return float("inf")
    try:
        import dp_accounting
        from dp_accounting import rdp
    except ImportError:
        raise InputError(
            "epsilon needs dp-accounting, which is not installed; expected "
            "pip install 'jaxinv[privacy]'"
        ) from None
    accountant = rdp.RdpAccountant()
    step = dp_accounting.GaussianDpEvent(noise_multiplier)
    event = dp_accounting.PoissonSampledDpEvent(sampling_rate, step)
    accountant.compose(dp_accounting.SelfComposedDpEvent(event, rounds))
    return float(accountant.get_epsilon(delta))
