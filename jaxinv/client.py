"""The simulated client: holds a batch, makes the update, and says what is granted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.errors import InputError
from jaxinv.local_training import LocalTraining
from jaxinv.observation import Observation, observe
from jaxinv.release import Release, gradient, trained
from jaxinv.target import Batch, Params, Target

Masked = Callable[[jax.Array, Params, Any], tuple[Any, Any]]
"""`(key, params, batch) -> (update, visible)`; see `jaxinv.defenses.encryption`."""


class Client(NamedTuple):
    """A release that was compiled, which still says how it trains."""

    release: Release
    """`(key, params, batch) -> update`, such as `jax.jit(fedavg(...))`."""
    local: LocalTraining | None
    """None where it sends one gradient."""
    masked: Masked | None = None
    """The release's own `masked`, compiled, where it encrypts a part."""

    def __call__(self, key: jax.Array, params: Params, batch: Any) -> Any:
        """The release's update."""
        return self.release(key, params, batch)


def simulate(
    key: jax.Array,
    target: Target,
    params: Params,
    batch: Batch,
    *,
    release: Release | None = None,
    grant: tuple[str, ...] = ("labels",),
    sent: str | None = None,
) -> Observation:
    """What a server would observe of a client that holds `batch`.

    Args:
      key: of the client's own randomness.
      target: the model.
      params: what the server sent.
      batch: the client's secret.
      release: what the client does; None is one gradient.
      grant: what the attacker is told besides. "visible" is which numbers of the
        update the client sends in the clear: what its release says (`release.masked`),
        else those that are not zero. Without it zeros stand for the encrypted ones, as
        an attacker sees them who does not know that anything is encrypted.
      sent: "gradient", "delta" or "weights": what the client sends. None is what the
        release makes: a delta where it says how it trains (`release.local`), else a
        gradient. Weights are rounded as their type is, so that of a small delta less
        is left than the release computes.

    Raises:
      InputError: batch statistics are granted of a model that has none, or the local
        training of a release that has none.
    """
    release = release or gradient(target.loss)
    local = getattr(release, "local", None)
    if sent is None:
        sent = "gradient" if local is None else "delta"
    if "local_training" in grant and local is None:
        raise InputError(
            "local_training is granted, but this client does not say how it trains"
        )
    visible = None
    if "visible" not in grant:
        update = release(key, params, batch)
    elif (masked := getattr(release, "masked", None)) is not None:
        update, visible = masked(key, params, batch)
    else:
        update = release(key, params, batch)
        visible = jax.tree.map(lambda leaf: leaf != 0, update)
    if sent == "weights":
        update = jax.tree.map(jnp.add, trained(params), update)
    stats = None
    if "batch_stats" in grant:
        stats = target.probe(params, batch).batch_stats if target.probe else None
        if not stats:
            raise InputError(
                "batch_stats is granted, but this model has no batch-norm layer"
            )
    return observe(
        params,
        update,
        num_examples=batch.inputs.shape[0],
        spec=target.spec,
        labels=np.asarray(batch.labels) if "labels" in grant else None,
        batch_stats=stats,
        sent=sent,
        local_training=local if "local_training" in grant else None,
        visible=visible,
    )
