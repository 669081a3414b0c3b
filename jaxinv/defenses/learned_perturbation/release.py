"""The defence: the client computes its update on perturbed images.

See `perturber` for what is published and what is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxinv.defenses.learned_perturbation.perturber import Perturber, perturbed
from jaxinv.defenses.learned_perturbation.storage import load
from jaxinv.errors import InputError
from jaxinv.local_training import LocalTraining
from jaxinv.release import Release
from jaxinv.target import Batch, Params


# Compared by identity: two trees of arrays have no one answer to ==.
@dataclass(frozen=True, eq=False)
class LearnedPerturbation:
    """The release of `learned_perturbation`."""

    release: Release
    """Of the perturbed images."""
    perturber: Perturber

    @property
    def local(self) -> LocalTraining | None:
        """How the client trains; None for a release without local training."""
        return getattr(self.release, "local", None)

    def __call__(self, key: jax.Array, params: Params, batch: Batch) -> Any:
        """The update on perturbed images, as `trained(params)`."""
        own, drawn = jax.random.split(key)
        return self.release(own, params, self.perturbed(drawn, batch))

    def perturbed(self, key: jax.Array, batch: Batch) -> Batch:
        """The batch with its images perturbed; labels stay."""
        inputs = perturbed(self.perturber, key, jnp.asarray(batch.inputs)).inputs
        return Batch(inputs, batch.labels)


def learned_perturbation(release: Release, perturber: Perturber) -> LearnedPerturbation:
    """Learnable data perturbation before a release.

    An attack that matches this release, or `jaxinv.defenses.protection.expected` of
    it, knows the perturber and not what it drew; one that matches `release` itself
    knows nothing of the defence.

    Args:
      release: what is sent of the perturbed images.
      perturber: fitted, of `training.minimax` or `storage.load`.

    Raises:
      InputError: `perturber` is none; when called, the images are of another shape
        than it takes.
    """
    if not isinstance(perturber, Perturber):
        raise InputError(
            f"perturber is {type(perturber).__name__}; expected a fitted Perturber, "
            "such as jaxinv.defenses.learned_perturbation.load(path) reads"
        )
    return LearnedPerturbation(release, perturber)


def saved_perturbation(release: Release, *, path: str = "") -> LearnedPerturbation:
    """The same with a perturber from a file.

    Args:
      release: what is sent of the perturbed images.
      path: of what `storage.save` wrote.

    Raises:
      InputError: the path is empty, or the file is none that `storage.load` reads.
    """
    if not path:
        raise InputError(
            "path is ''; learned_perturbation expects the file of a fitted perturber"
        )
    return learned_perturbation(release, load(path))
