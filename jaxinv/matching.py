"""Matching: how far apart two updates are.

Every function here builds a MatchFn `(guess, observed) -> scalar` on two trees of
equal structure, lower is closer, differentiable in the guess. `weights` is a
`LeafWeights`; the plain form weighs every leaf 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxinv.errors import InputError
from jaxinv.layers import key_name
from jaxinv.similarity import cosine_similarity, largest_entry

MatchFn = Callable[[Any, Any], jax.Array]
"""`(guess, observed) -> scalar`."""

LeafWeights = Callable[[Any], list[jax.Array]]
"""`(observed) -> one scalar per leaf`, in the order of `jax.tree.leaves`."""


@dataclass(frozen=True)
class ProductMatch:
    """A MatchFn of the angle, which reads the guess by inner products alone.

    The leaves of the guess may be `jaxinv.factored.Factored`.
    """

    of_similarity: Callable[[jax.Array], jax.Array]
    """The cosine between the updates to the distance."""
    weights: LeafWeights
    """Of the leaves, in the inner product and both norms."""

    def __call__(self, guess: Any, observed: Any) -> jax.Array:
        """The distance, `[]`."""
        leaves = jax.tree.leaves(guess), jax.tree.leaves(observed)
        similarity = cosine_similarity(self.weights(observed), *leaves)
        return self.of_similarity(similarity)


def equal(observed: Any) -> list[jax.Array]:
    """Every leaf counts once."""
    return [jnp.ones(()) for _ in jax.tree.leaves(observed)]


def by_depth(scheme: str, layers: tuple[str, ...] = ()) -> LeafWeights:
    """Weights that fall from the first layer to the last, the first weighing 1.

    Args:
      scheme: "linear", (L - l) / L for leaf l of L; "exponential", the softmax of
        L - l divided by its first entry. Source: Inverting Gradients' released code
        (Geiping et al. 2020), `weights='linear' | 'exp'`.
      layers: `Spec.layers`, the paths in forward order. Without it leaves are taken in
        the natural order of their names (Conv_2 before Conv_10), which is the forward
        order only for a model of one kind of layer.
    """
    if scheme not in ("linear", "exponential"):
        raise InputError(f"scheme is {scheme!r}; expected 'linear' or 'exponential'")

    def weights(observed: Any) -> list[jax.Array]:
        paths = [
            "/".join(key_name(k) for k in path)
            for path, _ in jax.tree_util.tree_flatten_with_path(observed)[0]
        ]
        place = {layer: i for i, layer in enumerate(layers)}

        def rank(path: str):
            # A kernel comes before its bias, as it does in a forward pass.
            layer, _, name = path.rpartition("/")
            return place.get(layer, len(place)), _natural(layer), "bias" in name

        order = sorted(range(len(paths)), key=lambda i: rank(paths[i]))
        position = {leaf: i for i, leaf in enumerate(order)}
        depth = jnp.array([float(position[i]) for i in range(len(paths))])
        if scheme == "linear":
            values = (len(paths) - depth) / len(paths)
        else:
            values = jnp.exp(-depth)
        return list(values)

    return weights


def top_norms(count: int) -> LeafWeights:
    """1 for the `count` leaves of largest norm in the observed update, else 0.

    Source: Inverting Gradients' released code, `indices='top10'` and its kin.
    """
    if count < 1:
        raise InputError(f"count is {count}; expected 1 or more")

    def weights(observed: Any) -> list[jax.Array]:
        leaves = jax.tree.leaves(observed)
        scale = largest_entry(leaves)  # so that no square vanishes or overflows
        norms = jnp.stack([jnp.sum((leaf / scale) ** 2) for leaf in leaves])
        top = jax.lax.top_k(norms, min(count, len(leaves)))[1]
        return list(jnp.zeros_like(norms).at[top].set(1.0))

    return weights


def squared(weights: LeafWeights = equal) -> MatchFn:
    """Sum of squared differences, `sum_l w_l |g_l - u_l|^2` (DLG, eq. 4)."""

    def match(guess: Any, observed: Any) -> jax.Array:
        return _weighted_sum(
            weights, lambda g, u: jnp.sum((g - u) ** 2), guess, observed
        )

    return match


def l1(weights: LeafWeights = equal) -> MatchFn:
    """Sum of absolute differences."""

    def match(guess: Any, observed: Any) -> jax.Array:
        return _weighted_sum(
            weights, lambda g, u: jnp.sum(jnp.abs(g - u)), guess, observed
        )

    return match


def tag(scale: float = 0.1, weights: LeafWeights | None = None) -> MatchFn:
    """TAG's distance, `1/2 sum_l (|g_l - u_l|_2^2 + scale w_l |g_l - u_l|_1)`.

    Source: Deng et al. 2021 (arXiv 2103.06819), with the factors of the breaching
    framework: scale 0.1, weights falling linearly with depth.
    """
    if scale < 0:
        raise InputError(f"scale is {scale}; expected 0 or more")
    euclidean, absolute = squared(), l1(weights or by_depth("linear"))

    def match(guess: Any, observed: Any) -> jax.Array:
        both = euclidean(guess, observed) + scale * absolute(guess, observed)
        return 0.5 * both

    return match


def cosine(weights: LeafWeights = equal) -> MatchFn:
    """One minus the cosine between the whole updates, in [0, 2].

    Source: Inverting Gradients (Geiping et al. 2020, arXiv 2003.14053), eq. 4. Weights
    enter the inner product and both norms.
    """
    return ProductMatch(lambda similarity: 1.0 - similarity, weights)


def angular(weights: LeafWeights = equal) -> MatchFn:
    """The angle between the whole updates over pi, in [0, 1].

    The cosine is held a little inside [-1, 1], where the angle's derivative is finite.
    """

    def angle(similarity: jax.Array) -> jax.Array:
        edge = 1.0 - 8 * jnp.finfo(similarity.dtype).eps
        return jnp.arccos(jnp.clip(similarity, -edge, edge)) / jnp.pi

    return ProductMatch(angle, weights)


def masked(match: MatchFn, *, threshold: float = 1e-6) -> MatchFn:
    """The match on those coordinates where the observed update exceeds a threshold.

    For updates that were pruned, or that hold padding: where nothing was sent, the
    guess is not blamed. Source: the masked cosine of the breaching framework.

    Args:
      match: what to compute on the rest.
      threshold: absolute value that an observed entry must exceed.
    """
    if threshold < 0:
        raise InputError(f"threshold is {threshold}; expected 0 or more")

    def match_masked(guess: Any, observed: Any) -> jax.Array:
        seen = jax.tree.map(lambda u: jnp.abs(u) > threshold, observed)
        keep = jax.tree.map(lambda leaf, m: jnp.where(m, leaf, 0), guess, seen)
        return match(
            keep, jax.tree.map(lambda u, m: jnp.where(m, u, 0), observed, seen)
        )

    return match_masked


def _weighted_sum(weights, distance, guess: Any, observed: Any) -> jax.Array:
    terms = [
        w * distance(g, u)
        for w, g, u in zip(
            weights(observed),
            jax.tree.leaves(guess),
            jax.tree.leaves(observed),
            strict=True,
        )
    ]
    return sum(terms[1:], start=terms[0])


def _natural(text: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", text)
    return [(1, int(p), "") if p.isdigit() else (0, 0, p) for p in parts]
