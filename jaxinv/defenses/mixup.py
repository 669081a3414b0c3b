"""Mixup: the client computes its gradient on mixtures of its examples.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv 1710.09412;
as a defence against gradient inversion Huang et al., "Evaluating Gradient Inversion
Attacks and Defenses in Federated Learning", NeurIPS 2021, arXiv 2112.00059 (GradAttack,
with InstaHide, whose public images and random signs are not part of this).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxinv.defenses.checks import check_strength
from jaxinv.errors import InputError
from jaxinv.local_training import LocalTraining
from jaxinv.release import Release
from jaxinv.target import Batch, Params


@dataclass(frozen=True)
class Mixup:
    """The release of `mixup`."""

    release: Release
    """Of the mixtures."""
    alpha: float
    num_classes: int

    @property
    def local(self) -> LocalTraining | None:
        """How the client trains; None for a release without local training."""
        return getattr(self.release, "local", None)

    def __call__(self, key: jax.Array, params: Params, batch: Batch) -> Any:
        """The update on mixtures of the batch, as `trained(params)`."""
        own, drawn = jax.random.split(key)
        return self.release(own, params, self.mixed(drawn, batch))

    def mixed(self, key: jax.Array, batch: Batch) -> Batch:
        """Each example mixed with another one of the batch, labels `[N, K]` likewise.

        With a batch of one there is nothing to mix it with.
        """
        of_share, of_order = jax.random.split(key)
        labels = jnp.asarray(batch.labels)
        if jnp.issubdtype(labels.dtype, jnp.integer):
            labels = jax.nn.one_hot(labels, self.num_classes)
        inputs = jnp.asarray(batch.inputs)
        if not self.alpha:
            return Batch(inputs, labels)
        share = jax.random.beta(of_share, self.alpha, self.alpha)
        order = jax.random.permutation(of_order, len(inputs))
        return Batch(
            share * inputs + (1 - share) * inputs[order],
            share * labels + (1 - share) * labels[order],
        )


def mixup(release: Release, num_classes: int, *, alpha: float = 1.0) -> Mixup:
    """Mixup before a release.

    Args:
      release: what is sent of the mixtures.
      num_classes: K, of the labels.
      alpha: of the Beta distribution of the share; 0 mixes nothing.

    Raises:
      InputError: an argument is out of range.
    """
    check_strength("alpha", alpha)
    if alpha == float("inf"):
        raise InputError("alpha is inf; expected a finite number")
    return Mixup(release, alpha, num_classes)
