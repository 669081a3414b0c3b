"""Significance: which coordinates of an update are worth encrypting, by one interface.

Gu, Yao, Wang, Joe-Wong, "Evaluating Selective Encryption Against Gradient Inversion
Attacks", arXiv 2508.04155, compares such metrics; its formulas are not public to us, so
those here are from the papers that proposed them, or ours, as the table `METRICS` says.
Metrics that differentiate are in `sensitivity`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxinv.defenses.encryption.sensitivity import (
    input_sensitivity,
    label_sensitivity,
    layer_sensitivity,
)
from jaxinv.errors import InputError
from jaxinv.options import check_choice, check_options
from jaxinv.release import trained
from jaxinv.target import Batch, Params, Target

MetricFn = Callable[[jax.Array, Params, Batch, Any], Any]
"""`(key, params, batch, update) -> significance`, a tree of floats like the update; the
higher, the sooner a coordinate is encrypted. The key is consumed."""


def random(target: Target) -> MetricFn:
    """Drawn uniformly by the key: what every other metric has to beat."""
    del target

    def metric(key: jax.Array, params: Params, batch: Batch, update: Any) -> Any:
        del params, batch
        leaves, structure = jax.tree.flatten(update)
        keys = jax.random.split(key, len(leaves))
        drawn = [
            jax.random.uniform(k, x.shape) for k, x in zip(keys, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, drawn)

    return metric


def magnitude(target: Target) -> MetricFn:
    """`|update|`."""
    del target

    def metric(key: jax.Array, params: Params, batch: Batch, update: Any) -> Any:
        del key, params, batch
        return jax.tree.map(jnp.abs, update)

    return metric


def product_exposed(
    target: Target, *, exposed: Any = None, learning_rate: float = 1.0
) -> MetricFn:
    """MaskCrypt's `(w_exposed - w_latest) * gradient`, signed.

    How much the loss would change to first order if the client's weights were those
    that its adversary knows. The update is taken for a gradient and the latest weights
    for the sent ones after one step, `w - learning_rate * update`.

    Args:
      target: not read.
      exposed: w_exposed, what the adversary last saw of the client's weights, as
        `trained(params)`; None for the weights that the server sent. With these the
        order is exactly that of the magnitude, since the product is
        `learning_rate * update^2`.
      learning_rate: of that step.
    """
    del target

    def metric(key: jax.Array, params: Params, batch: Batch, update: Any) -> Any:
        del key, batch
        weights = trained(params)
        known = weights if exposed is None else exposed
        if jax.tree.map(jnp.shape, known) != jax.tree.map(jnp.shape, update):
            raise InputError(
                "exposed does not have the structure and shapes of the update; "
                "expected the weights an adversary knows"
            )
        moved = jax.tree.map(lambda w, g: w - learning_rate * g, weights, update)
        return jax.tree.map(lambda e, w, g: (e - w) * g, known, moved, update)

    return metric


def product_weight(target: Target) -> MetricFn:
    """`|gradient * weight|`."""
    del target

    def metric(key: jax.Array, params: Params, batch: Batch, update: Any) -> Any:
        del key, batch
        return jax.tree.map(lambda g, w: jnp.abs(g * w), update, trained(params))

    return metric


def product_sensitivity(target: Target) -> MetricFn:
    """`|gradient| * sensitivity`, the latter that of FedML-HE."""
    inner = label_sensitivity(target)

    def metric(key: jax.Array, params: Params, batch: Batch, update: Any) -> Any:
        scores = inner(key, params, batch, update)
        return jax.tree.map(lambda g, s: jnp.abs(g) * s, update, scores)

    return metric


class MetricEntry(NamedTuple):
    """A row of the table of metrics."""

    name: str
    """As `metric(name)` and `encryption(metric=name)` know it."""
    build: Callable[..., MetricFn]
    """`(target, **options) -> MetricFn`."""
    source: str
    """Where it comes from: published, of a third party, or ours."""


_ROWS = (
    MetricEntry("random", random, "standard baseline"),
    MetricEntry("magnitude", magnitude, "standard"),
    MetricEntry(
        "product_exposed",
        product_exposed,
        "published: MaskCrypt's released code (the plato framework); taking one step "
        "for the client's training is ours",
    ),
    MetricEntry("product_weight", product_weight, "ours, a reading of 'product'"),
    MetricEntry(
        "product_sensitivity",
        product_sensitivity,
        "ours, another reading of 'product'",
    ),
    MetricEntry(
        "sensitivity",
        label_sensitivity,
        "FedML-HE, Jin et al., arXiv 2303.10837, recalled by a third party",
    ),
    MetricEntry(
        "input_sensitivity",
        input_sensitivity,
        "ours, GradDefense's measure for single coordinates",
    ),
    MetricEntry(
        "layer_sensitivity",
        layer_sensitivity,
        "published: GradDefense's code (the plato framework), of whole layers",
    ),
)

METRICS: dict[str, MetricEntry] = {row.name: row for row in _ROWS}
"""Every metric by name."""


def metric(name: str, target: Target, **options: Any) -> MetricFn:
    """The metric of that name.

    Args:
      name: a key of `METRICS`.
      target: the model.
      **options: of the metric.

    Raises:
      InputError: no metric has this name, or it has no such option.
    """
    check_choice("metric", name, METRICS)
    check_options(f"metric {name!r}", METRICS[name].build, options)
    return METRICS[name].build(target, **options)


def averaged(significances: Any, weights: jax.Array | None = None) -> Any:
    """One significance for several clients, of which one mask for all is made.

    Source: FedML-HE (arXiv 2303.10837), whose server adds the clients' maps up by their
    shares of the data.

    Args:
      significances: leaves `[clients, ...]`.
      weights: `[clients]`, each client's share; None for all alike.
    """
    if weights is None:
        return jax.tree.map(lambda leaf: leaf.mean(0), significances)
    share = weights / weights.sum()
    return jax.tree.map(lambda leaf: jnp.tensordot(share, leaf, 1), significances)
