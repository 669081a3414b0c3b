"""Null-space attack on CENSOR: what many uploads of one batch determine exactly.

CENSOR (Zhang et al., NDSS 2025, arXiv 2501.15718) sends for every tensor a random one
at a right angle to the gradient's, so that from d - 1 uploads a tensor of d numbers is
known, up to its sign (`jaxinv.attacks.censor_uploads`). Ours; not in the paper.

Two things make few uploads go far. The output bias has as many numbers as there are
classes, and tells the labels. The kernel of a dense layer is, for a batch of one, the
outer product of its input and the bias's gradient: with the latter known, an upload of
the kernel is an equation for the input alone, of D numbers instead of D K.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxinv.attacks.base import AttackFn, Reconstruction, Status
from jaxinv.attacks.censor_uploads import (
    Direction,
    check_uploads,
    null_direction,
    unit_uploads,
    unrelated,
    upload_length,
)
from jaxinv.attacks.labels.counts import labels_from_counts, largest_remainder
from jaxinv.attacks.linear_layer import first_dense
from jaxinv.errors import InputError
from jaxinv.layers import find_head
from jaxinv.observation import Observation
from jaxinv.options import check_positive
from jaxinv.release import gradient
from jaxinv.space import LabelRule
from jaxinv.target import Batch, Target


def censor_labels(target: Target) -> LabelRule:
    """Labels from CENSOR's uploads of the output bias.

    From K - 1 uploads on the bias's gradient b is known up to its sign, and `N (p - b)`
    are the counts of the classes, with p what the model predicts of a grey image; the
    sign is the one with which they are nearest to whole numbers. From fewer, and one
    example, the class is taken for which `p - e_class` is nearest to a right angle to
    all uploads and to their length. Both are the better the less the model tells images
    apart.

    Args:
      target: the model.

    Raises:
      InputError: when called, there is no output layer with a bias, or several examples
        and fewer than K - 1 uploads.
    """

    def rule(key: jax.Array, observation: Observation) -> jax.Array:
        labels = _read(target, key, observation)[1]
        if labels is None:
            num, classes = observation.num_examples, observation.spec.num_classes
            raise InputError(
                f"the observation has {observation.rounds} uploads of {num} examples; "
                f"their labels expected {classes - 1} or more, or to be granted"
            )
        return labels

    return rule


def censor_null_space(
    target: Target, *, largest: int = 4096, tolerance: float = 1e-2
) -> AttackFn:
    """Labels, and a batch of one that meets a dense layer first, from many uploads.

    Args:
      target: the model, differentiated to score and to resolve signs.
      largest: a layer of more units or inputs than this is left alone, for the time
        that its singular values take.
      tolerance: of `Direction.leftover`: uploads that leave more are not CENSOR's, or
        not of one batch at the same weights.

    Returns:
      An AttackFn, status OK where it found the inputs, else GAVE_UP with zeros for
      them: for T below D - 1 with D the numbers of an example, below K - 1 with K those
      of the first layer's bias, and for any model or batch but those named. Labels are
      granted or read by `censor_labels`, and zeros where they cannot be. The score is
      the sum of both means of `unrelated`: about 0 for the truth, and 1 or more
      for what has nothing to do with the uploads. Stats, all `[]`: "label_gap" and
      "label_leftover" of the output bias, "input_gap" and "input_leftover" of the
      inputs; gaps are 0 and leftovers 1 for what was not determined.

    Raises:
      InputError: an option is out of range; when called, the observation is a weight
        delta or encrypted, or the output layer has no bias.
    """
    check_positive("largest", largest)
    if not 0 < tolerance < 1:
        raise InputError(
            f"tolerance is {tolerance}; expected a number above 0 and below 1"
        )
    release = gradient(target.loss)

    def attack_fn(key: jax.Array, observation: Observation) -> Reconstruction:
        check_uploads(observation, "censor_null_space")
        num, spec = observation.num_examples, observation.spec
        of_labels, labels = _read(target, key, observation)
        if observation.known.labels is not None:
            labels = observation.known.labels

        if labels is None:
            labels = jnp.zeros(num, jnp.int32)

        def score(inputs: jax.Array) -> jax.Array:
            guess = release(key, observation.round(0)[0], Batch(inputs, labels))
            return sum(unrelated(guess, observation.update), start=jnp.zeros(()))

        inputs = jnp.zeros((num, *spec.shape))
        # One decomposition after the other: LAPACK's own threads may wait forever.
        update, _ = jax.lax.optimization_barrier((observation.update, of_labels))
        of_inputs, length = _first_inputs(
            dataclasses.replace(observation, update=update), largest
        )
        if of_inputs is None:
            of_inputs, scores = _nothing(inputs), score(inputs)
        else:
            # The kernel and the bias are known up to a sign each, so the input is.
            found = (length * of_inputs.vector).reshape(inputs.shape)
            signs = jnp.array([1.0, -1.0], found.dtype)
            both = jax.lax.map(lambda sign: score(sign * found), signs)
            best = jnp.argmin(both)
            inputs, scores = signs[best] * found, both[best]
        determined = (of_inputs.gap > 0) & (of_inputs.leftover < tolerance)
        status = jnp.where(determined, Status.OK, Status.GAVE_UP)
        finite = jnp.isfinite(scores)
        status = jnp.where(finite, status, Status.DIVERGED).astype(jnp.int32)
        batch = Batch(jnp.where(determined, inputs, 0.0), labels)
        stats = {
            "label_gap": of_labels.gap,
            "label_leftover": of_labels.leftover,
            "input_gap": of_inputs.gap,
            "input_leftover": of_inputs.leftover,
        }
        return Reconstruction(batch, jnp.where(finite, scores, jnp.inf), status, stats)

    return attack_fn


def _nothing(like: jax.Array) -> Direction:
    zero = jnp.zeros((), like.dtype)
    return Direction(jnp.zeros(like.shape[1:], like.dtype).reshape(-1), zero, zero + 1)


def _head_bias(observation: Observation) -> jax.Array:
    """`[T, K]`, the uploads of the output layer's bias."""
    spec = observation.spec
    bias = jax.vmap(lambda one: find_head(one, spec, needs_bias=True).bias)(
        observation.update
    )
    assert bias is not None
    return bias


def _read(
    target: Target, key: jax.Array, observation: Observation
) -> tuple[Direction, jax.Array | None]:
    """The output bias's gradient and the labels; None where they cannot be read."""
    num, classes = observation.num_examples, observation.spec.num_classes
    uploads = _head_bias(observation)
    predicted = _predicted(target, key, observation)
    if len(uploads) >= classes - 1:
        found = null_direction(uploads)
        bias = found.vector * upload_length(uploads)
        return found, _labels(bias, predicted, num)
    if num > 1:
        return _nothing(uploads), None
    guesses = predicted - jnp.eye(classes, dtype=predicted.dtype)
    sizes = jnp.linalg.norm(guesses, axis=1)
    along = jnp.sum((unit_uploads(uploads) @ guesses.T / sizes) ** 2, axis=0)
    # An error of the prediction shows as much in the length as in each direction.
    best = jnp.argmin(along + jnp.log(sizes / upload_length(uploads)) ** 2)
    return _nothing(uploads), best[None].astype(jnp.int32)


def _predicted(target: Target, key: jax.Array, observation: Observation) -> jax.Array:
    """`[K]`, what the model predicts of a grey image."""
    spec = observation.spec
    grey = jnp.broadcast_to(sum(spec.box()) / 2, (1, *spec.shape))
    batch = Batch(grey, jnp.zeros(1, jnp.int32))
    guess = gradient(target.loss)(key, observation.round(0)[0], batch)
    bias = find_head(guess, spec, needs_bias=True).bias
    assert bias is not None
    return bias.at[0].add(1.0)


def _labels(bias: jax.Array, predicted: jax.Array, num: int) -> jax.Array:
    """`[N]`, sorted, from the bias's gradient up to its sign."""

    def counted(bias: jax.Array) -> tuple[jax.Array, jax.Array]:
        estimate = num * (predicted - bias)
        bound = jnp.where(bias < 0, jnp.ceil(-num * bias - 1e-3), 0)
        bound = jnp.clip(jnp.nan_to_num(bound), 0, num).astype(jnp.int32)
        counts = largest_remainder(estimate, num, at_least=bound)
        return counts, jnp.sum((estimate - counts) ** 2)

    (plus, error), (minus, other) = counted(bias), counted(-bias)
    return labels_from_counts(jnp.where(error <= other, plus, minus), num)


def _first_inputs(
    observation: Observation, largest: int
) -> tuple[Direction | None, jax.Array]:
    """The one example up to its sign, and its length; None where T is too small."""
    nothing = None, jnp.zeros(())
    held = jax.tree.map(lambda leaf: leaf[0], observation.update)
    try:
        first_dense(held, observation.spec, None)
    except InputError:
        return nothing
    kernel, bias = jax.vmap(lambda one: first_dense(one, observation.spec, None)[1])(
        observation.update
    )
    assert bias is not None
    count, inputs, units = kernel.shape
    wide = max(inputs, units) > min(largest, count + 1) or min(inputs, units) < 2
    if observation.num_examples > 1 or wide:
        return nothing
    slope = null_direction(bias)
    # <o, x d^T> is <o d, x>, an equation for x alone.
    unit = unit_uploads(kernel.reshape(count, -1)).reshape(kernel.shape)
    equations = jnp.einsum("tdk,k->td", unit, slope.vector, precision="highest")
    equations, slope = jax.lax.optimization_barrier((equations, slope))
    found = null_direction(equations)
    worse = Direction(
        found.vector,
        jnp.minimum(found.gap, slope.gap),
        jnp.maximum(found.leftover, slope.leftover),
    )
    length = upload_length(kernel.reshape(count, -1)) / upload_length(bias)
    return worse, length
