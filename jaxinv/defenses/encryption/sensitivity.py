"""Sensitivities: how much each coordinate of the gradient says of labels or inputs.

All are derivatives of the gradient, taken forward through it, so that a loss with an
operation that has a `custom_vjp` is refused by JAX.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxinv.layers import key_name
from jaxinv.options import check_positive
from jaxinv.release import Release, gradient
from jaxinv.target import Batch, Params, Target


def label_sensitivity(target: Target) -> Any:
    """FedML-HE's: `(1/K) sum_k |d/dy_k (d loss / d w_m)|` for soft labels y.

    Jin, Yao, Han, Gu, Joe-Wong, He, "FedML-HE", arXiv 2303.10837, as recalled by a
    third party. Of a batch each example's labels count apart, N K forward passes. The
    loss has to take probabilities for labels. Cross-entropy is linear in them: there
    this is the mean over the classes of `|d log p_k / d w_m|`, whatever the true label.
    """
    release = gradient(target.loss, route="reverse")

    def metric(key: jax.Array, params: Params, batch: Batch, update: Any) -> Any:
        del update
        labels, classes = jnp.asarray(batch.labels), target.spec.num_classes
        if labels.ndim == 1:
            labels = jax.nn.one_hot(labels, classes)

        def of_labels(labels: jax.Array) -> Any:
            return release(key, params, batch._replace(labels=labels))

        def add(total: Any, index: jax.Array) -> tuple[Any, None]:
            direction = jnp.zeros(labels.size, labels.dtype).at[index].set(1)
            direction = direction.reshape(labels.shape)
            _, change = jax.jvp(of_labels, (labels,), (direction,))
            return jax.tree.map(lambda t, c: t + jnp.abs(c) / classes, total, change), (
                None
            )

        start = jax.tree.map(jnp.zeros_like, jax.eval_shape(of_labels, labels))
        return jax.lax.scan(add, start, jnp.arange(labels.size))[0]

    return metric


def input_sensitivity(target: Target, *, num_directions: int = 8) -> Any:
    """The root mean square of each coordinate's change along random input directions.

    With standard normal directions the mean square is the squared norm of the row of
    the Jacobian, `|d g_m / d x|^2`.

    Args:
      target: the model.
      num_directions: forward passes.

    Raises:
      InputError: `num_directions` is no positive integer.
    """
    check_positive("num_directions", num_directions)
    release = gradient(target.loss, route="reverse")

    def metric(key: jax.Array, params: Params, batch: Batch, update: Any) -> Any:
        del update
        of_inputs, inputs = _of_inputs(release, key, params, batch)

        def add(total: Any, drawn: jax.Array) -> tuple[Any, None]:
            direction = jax.random.normal(drawn, inputs.shape, inputs.dtype)
            _, change = jax.jvp(of_inputs, (inputs,), (direction,))
            return jax.tree.map(lambda t, c: t + c**2, total, change), None

        start = jax.tree.map(jnp.zeros_like, jax.eval_shape(of_inputs, inputs))
        keys = jax.random.split(key, num_directions)
        total, _ = jax.lax.scan(add, start, keys)
        return jax.tree.map(lambda leaf: jnp.sqrt(leaf / num_directions), total)

    return metric


def layer_sensitivity(target: Target) -> Any:
    """GradDefense's, one number for each layer: `|d (sum of g_layer) / d x|_F`.

    Wang, Guo, Xie, Qi, "Protect Privacy from Gradient Leakage Attack in Federated
    Learning", INFOCOM 2022, as in the plato framework's code. The mean over the
    examples, each by its own gradient. It ranks layers, not coordinates: below whole
    layers equal scores are broken by the key. Of an output layer with softmax and
    cross-entropy it says 0 whatever the input, because that layer's gradient sums to
    zero over the classes: it is always encrypted last.
    """
    release = gradient(target.loss, route="reverse")

    def metric(key: jax.Array, params: Params, batch: Batch, update: Any) -> Any:
        del update
        of_inputs, inputs = _of_inputs(release, key, params, batch)
        sent, pull = jax.vjp(of_inputs, inputs)
        numbers = layer_numbers(sent)
        leaves, structure = jax.tree.flatten(sent)

        def one(layer: jax.Array) -> jax.Array:
            ones = [
                jnp.where(layer == n, jnp.ones_like(leaf), 0)
                for n, leaf in zip(numbers, leaves, strict=True)
            ]
            (back,) = pull(jax.tree.unflatten(structure, ones))
            # The loss is a mean: N times this is an example's own derivative, and the
            # mean over the N examples takes the factor back.
            return jnp.sqrt(jnp.sum(back**2, axis=tuple(range(1, back.ndim)))).sum()

        scores = jax.lax.map(one, jnp.arange(max(numbers) + 1))
        filled = [
            jnp.full_like(leaf, 1) * scores[n]
            for n, leaf in zip(numbers, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, filled)

    return metric


def layer_numbers(tree: Any) -> list[int]:
    """For each leaf the number of its layer: leaves under one path are one layer."""
    paths = []
    for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]:
        names = [key_name(key) for key in path]
        if names[-1:] == ["value"]:  # nnx keeps an array one level down
            names.pop()
        # A leaf at the top is a layer of its own.
        paths.append("/".join(names[:-1] or names))
    order = {path: i for i, path in enumerate(dict.fromkeys(paths))}
    return [order[path] for path in paths]


def _of_inputs(
    release: Release, key: jax.Array, params: Params, batch: Batch
) -> tuple[Callable[[jax.Array], Any], jax.Array]:
    """The update as a function of the inputs alone, and the batch's."""

    def of_inputs(inputs: jax.Array) -> Any:
        return release(key, params, batch._replace(inputs=inputs))

    return of_inputs, jnp.asarray(batch.inputs)
