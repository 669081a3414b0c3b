"""Spaces: what the attack searches over, and how a point of it becomes a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxinv.errors import InputError
from jaxinv.observation import Observation, require
from jaxinv.target import Batch, Spec


class Space(NamedTuple):
    """A search space. `z`, what is searched, is any tree of float arrays."""

    init: Callable[[jax.Array, Observation], tuple[Any, Any]]
    """`(key, observation) -> (z, given)`: a random start, and what stays fixed during
    the search (labels known or recovered), any tree of arrays."""
    decode: Callable[[Any, Any], Any]
    """`(z, given) -> batch`, what the target's loss takes; differentiable in z."""
    project: Callable[[Any], Any]
    """`(z) -> z`, back to where data can be."""


class PixelPoint(NamedTuple):
    """A point of the space `pixels`."""

    inputs: jax.Array
    """`[N, H, W, C]`, normalised."""
    label_logits: jax.Array | None
    """`[N, K]` when the labels are searched for too, else None."""


Initial = Callable[[jax.Array, tuple[int, ...]], jax.Array]
"""`(key, shape [N, H, W, C]) -> inputs`."""


def normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal noise in the normalised space (DLG, Inverting Gradients)."""
    return jax.random.normal(key, shape)


def uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform noise on [-1, 1] in the normalised space."""
    return jax.random.uniform(key, shape, minval=-1.0)


def zeros(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The mean of the data everywhere; every restart is the same."""
    del key
    return jnp.zeros(shape)


def patterned(width: int) -> Initial:
    """One `width` by `width` tile of normal noise, repeated over every image.

    Source: the start "patterned-4" of the breaching framework's modern preset, after
    Wei et al. 2020 (arXiv 2004.10397).
    """
    if width < 1:
        raise InputError(f"width is {width}; expected 1 or more")

    def init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        if len(shape) != 4:
            raise InputError(f"shape is {shape}; a patterned start expects images")
        _, height, breadth, channels = shape
        tile = jax.random.normal(key, (1, width, width, channels))
        tiled = jnp.tile(tile, (1, -(-height // width), -(-breadth // width), 1))
        return jnp.broadcast_to(tiled[:, :height, :breadth], shape)

    return init


LabelRule = Callable[[jax.Array, Observation], jax.Array]
"""`(key, observation) -> labels [N]`, recovered from the update alone."""


LABEL_WAYS = ("known", "joint", "known_or_joint")
"""Ways to have labels that are no rule; see `pixels`."""


def known_or(rule: LabelRule) -> LabelRule:
    """The granted labels where the observation has them, else those of the rule."""

    def labels(key: jax.Array, observation: Observation) -> jax.Array:
        granted = observation.known.labels
        return rule(key, observation) if granted is None else granted

    return labels


def shuffled(rule: LabelRule) -> LabelRule:
    """The rule's labels in an order drawn by key, a different one for each start.

    Where a client took several steps it matters which labels met in which step, and a
    rule knows only how often each occurs.
    """

    def labels(key: jax.Array, observation: Observation) -> jax.Array:
        key_rule, key_order = jax.random.split(key)
        return jax.random.permutation(key_order, rule(key_rule, observation))

    return labels


def pixels(
    spec: Spec,
    *,
    labels: LabelRule | str = "known",
    initial: Initial = normal,
    box: bool = True,
) -> Space:
    """Normalised pixels, with the labels given or searched for beside them.

    Args:
      spec: shape, classes and normalisation.
      labels: "known" requires that the observation grants them; "joint" searches for
        soft labels beside the pixels, logits whose softmax enters the loss (DLG);
        "known_or_joint" does the one where labels are granted and the other where not;
        a rule recovers them from the update before the search.
      initial: draws the inputs of a start.
      box: whether `project` clips to what pixels in [0, 1] normalise to.
    """
    if isinstance(labels, str) and labels not in LABEL_WAYS:
        raise InputError(
            f"labels is {labels!r}; expected one of {', '.join(LABEL_WAYS)}, or a rule "
            "of jaxinv.attacks.labels"
        )
    low, high = spec.box()

    def init(key: jax.Array, observation: Observation):
        key_inputs, key_labels = jax.random.split(key)
        count = observation.num_examples
        inputs = initial(key_inputs, (count, *spec.shape))
        joint = labels == "known_or_joint" and observation.known.labels is None
        if labels == "joint" or joint:
            logits = jax.random.normal(key_labels, (count, spec.num_classes))
            return PixelPoint(inputs, logits), None
        if callable(labels):
            return PixelPoint(inputs, None), labels(key_labels, observation)
        return PixelPoint(inputs, None), require(
            observation,
            "labels",
            why="grant them, or attack with labels='joint' or a label rule",
        )

    def decode(z: PixelPoint, given: jax.Array | None) -> Batch:
        if z.label_logits is not None:
            return Batch(z.inputs, jax.nn.softmax(z.label_logits))
        assert given is not None
        return Batch(z.inputs, given)

    def project(z: PixelPoint) -> PixelPoint:
        if not box:
            return z
        dtype = z.inputs.dtype
        return z._replace(
            inputs=jnp.clip(z.inputs, low.astype(dtype), high.astype(dtype))
        )

    return Space(init, decode, project)
