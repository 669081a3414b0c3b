"""Selective encryption: a part of the update is sent under homomorphic encryption.

The server adds ciphertexts up without reading them, so that of each client it sees the
plain rest and where the encrypted part is. Jin et al., "FedML-HE", arXiv 2303.10837;
Hu and Li, "MaskCrypt", IEEE TDSC 2024; evaluated by Gu et al., arXiv 2508.04155, of
which we know the abstract: nothing here reproduces its tables. The aggregate, once
decrypted, is not modelled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxinv.defenses.checks import check_strength
from jaxinv.defenses.encryption.masks import GRANULARITIES, encryption_mask
from jaxinv.defenses.encryption.significance import MetricFn
from jaxinv.defenses.encryption.significance import metric as metric_of
from jaxinv.errors import InputError
from jaxinv.local_training import LocalTraining
from jaxinv.options import check_choice
from jaxinv.release import Release
from jaxinv.target import Batch, Params, Target


@dataclass(frozen=True, eq=False)
class Encryption:
    """The release of `encryption`."""

    release: Release
    """What the client would send."""
    choose: Callable[[jax.Array, Params, Batch, Any], Any]
    """`(key, params, batch, update) -> mask`, True where encrypted."""

    @property
    def local(self) -> LocalTraining | None:
        """How the client trains; None for a release without local training."""
        return getattr(self.release, "local", None)

    def __call__(self, key: jax.Array, params: Params, batch: Batch) -> Any:
        """The update with zeros for what is encrypted, as `trained(params)`."""
        return self.masked(key, params, batch)[0]

    def masked(self, key: jax.Array, params: Params, batch: Batch) -> tuple[Any, Any]:
        """What the server sees.

        Returns:
          The update with zeros for what is encrypted, and `visible`, bools like it,
          True where it is plain; see `jaxinv.observation.Knowledge`.
        """
        own, drawn = jax.random.split(key)
        update = self.release(own, params, batch)
        mask = jax.lax.stop_gradient(self.choose(drawn, params, batch, update))
        visible = jax.tree.map(jnp.logical_not, mask)
        plain = jax.tree.map(lambda leaf, v: jnp.where(v, leaf, 0), update, visible)
        return plain, visible


def encryption(
    release: Release,
    target: Target,
    *,
    metric: str | MetricFn = "magnitude",
    ratio: float = 0.1,
    granularity: str = "coordinate",
    mask: Any = None,
    options: Mapping[str, Any] | None = None,
) -> Encryption:
    """Selective encryption of a release.

    Args:
      release: what the client would send.
      target: the model, for metrics that differentiate it.
      metric: a key of `jaxinv.defenses.encryption.METRICS`, or a function like theirs.
        The client scores its own batch.
      ratio: share of the coordinates that is encrypted, see `encryption_mask`.
      granularity: one of `GRANULARITIES`.
      mask: bools like the update, True where encrypted: one mask for every release,
        such as one agreed among clients. Metric, ratio and granularity are not read.
      options: of the metric, by name.

    Raises:
      InputError: an argument is unknown or out of range; when called, the mask does
        not have the structure and shapes of the update.
    """
    check_strength("ratio", ratio, most=1.0)
    check_choice("granularity", granularity, GRANULARITIES)
    if mask is not None:
        return Encryption(release, _fixed(mask))
    if callable(metric):
        if options:
            raise InputError(
                f"options is {dict(options)!r} for a metric that is a function; "
                "expected none"
            )
        scored = metric
    else:
        scored = metric_of(metric, target, **(options or {}))

    def choose(key: jax.Array, params: Params, batch: Batch, update: Any) -> Any:
        key_metric, key_ties = jax.random.split(key)
        significance = scored(key_metric, params, batch, update)
        return encryption_mask(key_ties, significance, ratio, granularity=granularity)

    return Encryption(release, choose)


def _fixed(mask: Any) -> Callable[[jax.Array, Params, Batch, Any], Any]:
    leaves = jax.tree.leaves(mask)
    wrong = {str(jnp.result_type(leaf)) for leaf in leaves} - {"bool"}
    if wrong or not leaves:
        found = ", ".join(sorted(wrong)) or "empty"
        raise InputError(f"mask is {found}; expected bools like the update")

    def choose(key: jax.Array, params: Params, batch: Batch, update: Any) -> Any:
        del key, params, batch
        if jax.tree.map(jnp.shape, mask) != jax.tree.map(jnp.shape, update):
            raise InputError(
                "mask does not have the structure and shapes of the update; expected "
                "bools like it"
            )
        return jax.tree.map(jnp.asarray, mask)

    return choose
