"""Soteria: the features that say the most of the input are left out of the last layer.

Sun et al., "Soteria: Provable Defense against Privacy Leakage in Federated Learning
from Representation Perspective", CVPR 2021, arXiv 2012.06043, section 4 with q = 0: of
the features r of the output layer those with the largest |r_i| / |d r_i / dx| are
zeroed in that layer's gradient; all other layers send theirs as it is. (Which is why it
hides nothing from an attack that leaves the last layer out: Balunovic et al., "Bayesian
Framework for Gradient Leakage", ICLR 2022, arXiv 2111.04706.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxinv.defenses.checks import check_strength
from jaxinv.errors import InputError
from jaxinv.layers import find_head
from jaxinv.local_training import LocalTraining
from jaxinv.release import Release
from jaxinv.target import Batch, Params, Target

OFFSET = 0.1
"""Added to a feature that something is divided by, as in the released code."""


@dataclass(frozen=True)
class Soteria:
    """The release of `soteria`."""

    release: Release
    target: Target
    rate: float
    at_once: int

    @property
    def local(self) -> LocalTraining | None:
        """How the client trains; None for a release without local training."""
        return getattr(self.release, "local", None)

    def __call__(self, key: jax.Array, params: Params, batch: Batch) -> Any:
        """The update with rows of the last layer's zeroed, as `trained(params)`."""
        update = self.release(key, params, batch)
        kept = self.kept(params, batch)[:, None]
        head = find_head(update, self.target.spec).kernel
        return jax.tree.map(
            lambda leaf: jnp.where(kept, leaf, 0) if leaf is head else leaf, update
        )

    def kept(self, params: Params, batch: Batch) -> jax.Array:
        """`[D]` bool, the features that stay."""
        probe = self.target.probe
        assert probe is not None

        def features(inputs: jax.Array) -> jax.Array:
            found = probe(params, Batch(inputs, batch.labels)).features
            if found is None:
                raise InputError("target's probe reads no features; soteria needs them")
            return found

        inputs = jnp.asarray(batch.inputs)
        values, pull = jax.vjp(features, inputs)

        def slope(unit: jax.Array) -> jax.Array:
            (back,) = pull(jnp.broadcast_to(unit, values.shape))
            return jnp.sqrt(jnp.sum(back**2, axis=tuple(range(1, back.ndim))))

        units = jnp.eye(values.shape[1], dtype=values.dtype)
        slopes = jax.lax.map(slope, units, batch_size=self.at_once)  # [D, N]
        ratio = jnp.mean(slopes.T / (jnp.abs(values) + OFFSET), axis=0)
        kept = len(ratio) - round(self.rate * len(ratio))
        chosen = jax.lax.top_k(jax.lax.stop_gradient(ratio), kept)[1]
        return jnp.zeros(ratio.shape, bool).at[chosen].set(True)


def soteria(
    release: Release, target: Target, *, rate: float = 0.1, at_once: int = 32
) -> Soteria:
    """Soteria on a release.

    Args:
      release: what the client would send.
      target: with a probe that reads features.
      rate: share of the features that is left out.
      at_once: features whose derivatives are taken together, which bounds the memory.

    Raises:
      InputError: the rate is out of range, or the target has no probe.
    """
    check_strength("rate", rate, most=1.0)
    if target.probe is None:
        raise InputError("target has no probe; soteria expects one")
    return Soteria(release, target, rate, at_once)
