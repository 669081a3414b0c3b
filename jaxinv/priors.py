"""Priors: what an attacker believes data to look like, whatever the update says.

Every function here builds a PriorFn `(observation, batch) -> scalar`, lower is more
plausible. The observation is there for priors that compare with what was received
(batch-norm statistics, features); they declare what they need and are refused it if
it was not granted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxinv_kernels.rewrite import rewrite

from jaxinv.errors import InputError
from jaxinv.layers import find_head
from jaxinv.observation import Observation
from jaxinv.options import check_positive
from jaxinv.target import Batch, Moments, Probe, Target, Variables

PriorFn = Callable[[Observation, Any], jax.Array]
"""`(observation, batch) -> scalar`."""


def no_prior(observation: Observation, batch: Any) -> jax.Array:
    """Every batch is as plausible as any other."""
    return jnp.zeros(())


def weighted(*terms: tuple[float | jax.Array, PriorFn]) -> PriorFn:
    """The weighted sum of priors, from pairs `(weight, prior)`."""

    def prior(observation: Observation, batch: Any) -> jax.Array:
        values = [weight * term(observation, batch) for weight, term in terms]
        return sum(values, start=jnp.zeros(()))

    return prior


def total_variation(
    *, inner: float = 1.0, outer: float = 1.0, double_opponents: bool = False
) -> PriorFn:
    """Mean over pixels of `(|dx|^inner + |dy|^inner)^outer`.

    Source: Inverting Gradients (Geiping et al. 2020) with inner = outer = 1, the
    anisotropic form; inner 2 and outer 0.5 give the isotropic one. Differences are
    forward, and zero across the border.

    Args:
      inner: exponent of each absolute difference.
      outer: exponent of the sum of the two.
      double_opponents: adds the differences of the colour channels R-G, R-B and G-B
        as channels (Astrom and Schnorr 2016, as in the breaching framework).

    Raises:
      InputError: at trace, when the inputs are not images, or when double opponents
        meet anything but three channels.
    """
    for name, value in (("inner", inner), ("outer", outer)):
        if value <= 0:
            raise InputError(f"{name} is {value}; expected a positive exponent")
    # Keeps roots differentiable where neighbours are equal.
    epsilon = 1e-8 if inner != 1.0 or outer != 1.0 else 0.0

    def prior(observation: Observation, batch: Batch) -> jax.Array:
        x = batch.inputs
        if x.ndim < 3:
            raise InputError(
                f"inputs has shape {x.shape}; total variation expects [N, H, W, C]"
            )
        if double_opponents:
            if x.shape[-1] != 3:
                raise InputError(
                    "double_opponents needs images of 3 channels; these have "
                    f"{x.shape[-1]}"
                )
            red, green, blue = jnp.split(x, 3, axis=-1)
            pairs = [red - green, red - blue, green - blue]
            x = jnp.concatenate([x, *pairs], axis=-1)
        edge = [(0, 0)] * x.ndim
        down = jnp.pad(jnp.diff(x, axis=1), [edge[0], (0, 1), *edge[2:]])
        right = jnp.pad(jnp.diff(x, axis=2), [*edge[:2], (0, 1), *edge[3:]])
        down, right = jnp.abs(down) + epsilon, jnp.abs(right) + epsilon
        if inner != 1.0:
            down, right = down**inner, right**inner
        total = down + right
        return jnp.mean(total if outer == 1.0 else total**outer)

    return prior


def l2_norm(observation: Observation, batch: Batch) -> jax.Array:
    """Half the mean square of the inputs (GradInversion, Yin et al. 2021, eq. 8)."""
    return 0.5 * jnp.mean(batch.inputs**2)


def epoch_consistency(
    epochs: int, *, num_features: int = 64, pixel_weight: float = 1.0
) -> PriorFn:
    """Mean over pairs of epochs of the distance between what both are made of.

    The candidate holds every epoch's examples as unknowns of their own; in truth they
    are the same examples in another order. So what does not depend on the order has to
    agree: the mean image, and the mean of a random convolution with ReLU, which tells
    apart sets of images of the same mean. Source: Dimitrov et al. 2022 (arXiv
    2206.12395), section 4.4; squared distances, which make the mean over all pairs
    twice the variance over the epochs.

    Args:
      epochs: E; the inputs are `[E * N, H, W, C]`, one epoch after the other.
      num_features: channels of the 3x3 convolution, drawn once and for all; 0 leaves
        it out.
      pixel_weight: of the mean image beside the features.

    Raises:
      InputError: an option is out of range; at trace, when the inputs are not images
        of whole epochs.
    """
    check_positive("epochs", epochs)
    if num_features < 0 or pixel_weight < 0:
        raise InputError(
            f"num_features is {num_features} and pixel_weight {pixel_weight}; expected "
            "0 or more"
        )

    def prior(observation: Observation, batch: Batch) -> jax.Array:
        x = batch.inputs
        if x.ndim != 4 or x.shape[0] % epochs:
            raise InputError(
                f"inputs has shape {x.shape}; expected [N, H, W, C] with N a multiple "
                f"of the {epochs} epochs"
            )

        def spread(values: jax.Array) -> jax.Array:
            each = values.reshape(epochs, -1, *values.shape[1:]).mean(1)
            return 2 * jnp.mean((each - each.mean(0)) ** 2)

        total = pixel_weight * spread(x)
        if num_features:
            shape = (3, 3, x.shape[-1], num_features)
            kernel = np.random.default_rng(0).standard_normal(shape)
            kernel /= np.sqrt(np.prod(shape[:3]))
            read = jax.lax.conv_general_dilated(
                x,
                jnp.asarray(kernel, x.dtype),
                (1, 1),
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            total = total + spread(jax.nn.relu(read))
        return total

    return prior


def batch_norm_statistics(target: Target, *, first_factor: float = 1.0) -> PriorFn:
    """Distance of the candidate's batch statistics from those received.

    `sum_l |mean_l - m_l|_2 + |var_l - v_l|_2` over the batch-norm layers; m and v are
    the statistics of the client's own batch where they are granted, else the running
    statistics that the server sent. Source: GradInversion (Yin et al. 2021), eq. 9.

    Args:
      target: must have a probe.
      first_factor: multiplies the first layer's term (10 in DeepInversion's code).
    """
    probe = _probe_of(target, "the batch-norm prior")

    def prior(observation: Observation, batch: Batch) -> jax.Array:
        def one_round(params: Any) -> jax.Array:
            found = probe(params, batch).batch_stats
            wanted = observation.known.batch_stats or _running(params)
            if not found or not wanted:
                raise InputError(
                    "the batch-norm prior needs batch-norm layers and their statistics;"
                    " this model sent none (grant batch_stats, or leave the prior out)"
                )
            missing = sorted(found.keys() - wanted.keys())
            if missing:
                raise InputError(f"batch_stats lacks the layer {missing[0]}")
            place = {name: i for i, name in enumerate(target.spec.layers)}
            first = min(found, key=lambda name: place.get(name, len(place)))
            terms = [
                (first_factor if name == first else 1.0)
                * (
                    _norm(moments.mean - wanted[name].mean)
                    + _norm(moments.var - wanted[name].var)
                )
                for name, moments in found.items()
            ]
            return sum(terms, start=jnp.zeros(()))

        if observation.rounds == 1:
            return one_round(observation.round(0)[0])
        return jnp.mean(jax.vmap(one_round)(observation.params))

    return prior


def features(target: Target) -> PriorFn:
    """Distance of the candidate's features from those that the update betrays.

    Column k of the output layer's kernel gradient over entry k of its bias gradient
    is the feature vector of the example of class k where only one example has it:
    exactly in a batch of one, else up to the probability that the model gives to k on
    the others. Reads what is visible of the first round. Source: the feature prior of
    the breaching framework's modern preset; the identity is Proposition 3.1 of Geiping
    et al. 2020.

    Args:
      target: must have a probe that reads features.
    """
    probe = _probe_of(target, "the feature prior")

    def prior(observation: Observation, batch: Batch) -> jax.Array:
        params, update = observation.round(0)
        kernel, bias = find_head(update, observation.spec, needs_bias=True)
        assert bias is not None
        labels = batch.labels
        if labels.ndim == 2:
            labels = jnp.argmax(labels, axis=-1)
        safe = jnp.where(bias == 0, 1.0, bias)
        betrayed = jnp.where(bias == 0, 0.0, kernel / safe).T[labels]
        read = probe(params, batch).features
        if read is None:
            raise InputError("the feature prior needs a probe that reads features")
        apart = (read - betrayed) ** 2
        shown = observation.shown(0)
        if shown is None:
            return jnp.mean(apart)
        kernel, bias = find_head(shown, observation.spec, needs_bias=True)
        assert bias is not None
        plain = (kernel & bias).T[labels]
        return jnp.sum(jnp.where(plain, apart, 0)) / jnp.maximum(plain.sum(), 1)

    return prior


def _probe_of(target: Target, who: str) -> Callable[[Any, Batch], Probe]:
    if target.probe is None:
        raise InputError(f"{who} needs a target with a probe; this one has none")
    # As the loss is, so that XLA sees one forward pass where both read it.
    return rewrite(target.probe)


def _running(params: Any) -> dict[str, Moments]:
    """The running statistics among what the server sent, by layer path."""
    if not isinstance(params, Variables) or not isinstance(params.state, dict):
        return {}
    found: dict[str, Moments] = {}

    def walk(tree: Any, path: tuple[str, ...]) -> None:
        if isinstance(tree, dict):
            if {"mean", "var"} <= tree.keys():
                found["/".join(path)] = Moments(tree["mean"], tree["var"])
            for name, branch in tree.items():
                walk(branch, (*path, name))

    walk(params.state.get("batch_stats", {}), ())
    return found


def _norm(x: jax.Array) -> jax.Array:
    # Differentiable at zero, where a plain square root is not.
    return jnp.sqrt(jnp.sum(x**2) + 1e-12)
