"""Federated recommenders: one client per user, whose embedding never leaves it.

Items, and the layers that score a pair, are public and trained by all; the user's
embedding and ratings stay on the client. What the client sends is the gradient by the
public part. Sources: matrix factorisation, FedMF (Chai et al., arXiv 1906.05108); GMF
and NCF, He et al., WWW 2017 (arXiv 1708.05031), with the widths of RAIFLE (arXiv
2310.19163) and IMIA (arXiv 2301.10964). MGradInv's own models are not public.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxinv.errors import InputError, nearest
from jaxinv.options import check_choice, check_options, check_positive

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": jax.nn.gelu,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
}
"""Between the layers of `ncf`."""


POWER_STEPS = 8
"""Of `leading_row`; an exact gradient has rank one and needs one."""


class Profile(NamedTuple):
    """What a client holds, and what an attack looks for."""

    ratings: jax.Array
    """`[N]`, divided by the scale's highest; 0 or 1 for implicit feedback."""
    rated: jax.Array
    """`[N]` floats, 1 for an item that the client trains on, else 0."""
    user: Any
    """`[D]`, the embedding; `PerRound` of `[rounds, D]` in a candidate."""


@dataclass(frozen=True)
class RatingScale:
    """The grid of possible ratings. Hashable, so static.

    Attributes:
      low: the lowest rating, above 0; not read for implicit feedback.
      high: the highest.
      step: between two neighbours.
      implicit: whether a rating is an interaction, 0 or 1, instead.
    """

    low: float = 0.5
    high: float = 5.0
    step: float = 0.5
    implicit: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise InputError(
                f"low and high are {self.low} and {self.high}; expected 0 < low < high"
            )
        if not 0 < self.step <= self.high - self.low:
            raise InputError(f"step is {self.step}; expected above 0, within the scale")

    def box(self) -> tuple[float, float]:
        """The lowest and highest value in a profile."""
        return (0.0, 1.0) if self.implicit else (self.low / self.high, 1.0)

    def snapped(self, ratings: jax.Array) -> jax.Array:
        """The nearest possible value of each, in a profile's units."""
        if self.implicit:
            return jnp.round(jnp.clip(ratings, 0, 1))
        steps = jnp.round((ratings * self.high - self.low) / self.step)
        last = round((self.high - self.low) / self.step)
        return (self.low + self.step * jnp.clip(steps, 0, last)) / self.high


class Recommender(NamedTuple):
    """A model of ratings as trainer and attacks see it."""

    init: Callable[[jax.Array, int], Any]
    """`(key, num_items) -> public`, a dict with `items` `[num_items, D]`."""
    init_user: Callable[[jax.Array], jax.Array]
    """`(key) -> user [D]`."""
    predict: Callable[[Any, jax.Array], jax.Array]
    """`(public, user [D] or [N, D]) -> [N]`, a rating in a profile's units, or the
    logit of an interaction, for each row of the public `items` `[N, D]`."""
    scale: RatingScale
    """Of the ratings."""
    dim: int
    """D."""
    read_user: Callable[[Any, Any], jax.Array]
    """`(public, update) -> user [D]`: the embedding as far as one gradient gives it
    away by itself; of bilinear models only the direction, as a vector of length 1."""
    item_row: Callable[[Any, jax.Array], jax.Array] | None = None
    """Of bilinear models: `(public, user [D]) -> [D]`, whose inner product with an
    item's embedding is the prediction. Every item's row of a gradient is then a
    multiple of it, and leaves its length and sign open. None for others."""

    def loss(self, public: Any, profile: Profile) -> jax.Array:
        """Mean over the rated items of what `pair_losses` gives."""
        losses = self.pair_losses(public, profile.user, profile.ratings)
        count = jnp.maximum(profile.rated.sum(), 1)
        return jnp.sum(losses * profile.rated) / count

    def pair_losses(
        self, public: Any, user: jax.Array, ratings: jax.Array
    ) -> jax.Array:
        """`[N]`: squared errors, or binary cross-entropy of interactions."""
        predicted = self.predict(public, user)
        if self.scale.implicit:
            return optax.sigmoid_binary_cross_entropy(predicted, ratings)
        return (predicted - ratings) ** 2

    def slopes(self, predicted: jax.Array, ratings: jax.Array) -> jax.Array:
        """`[N]`, `pair_losses` derived by the prediction: affine in the ratings."""
        if self.scale.implicit:
            return jax.nn.sigmoid(predicted) - ratings
        return 2 * (predicted - ratings)


def mf(scale: RatingScale, *, dim: int = 64, std: float = 0.1) -> Recommender:
    """Matrix factorisation: the rating is the inner product of user and item.

    Args:
      scale: of the ratings.
      dim: entries of an embedding.
      std: of the normal distribution that embeddings start from.
    """

    def predict(public: Any, user: jax.Array) -> jax.Array:
        return _inner(public["items"], user)

    def read_user(public: Any, update: Any) -> jax.Array:
        # Every item's row is a multiple of the embedding.
        return leading_row(update["items"])

    def item_row(public: Any, user: jax.Array) -> jax.Array:
        return user

    return _recommender(scale, dim, std, predict, lambda key: {}, read_user, item_row)


def gmf(scale: RatingScale, *, dim: int = 64, std: float = 0.1) -> Recommender:
    """Generalised matrix factorisation: the inner product with trained weights.

    The weights start near 1 (He et al. draw them; at 0.1 nothing would be learned in
    the rounds an attack looks at). Arguments as for `mf`.
    """

    def predict(public: Any, user: jax.Array) -> jax.Array:
        return _inner(public["items"], user * public["weights"])

    def layers(key: jax.Array) -> dict[str, jax.Array]:
        return {"weights": 1 + std * jax.random.normal(key, (dim,))}

    def read_user(public: Any, update: Any) -> jax.Array:
        weights = public["weights"]
        user = leading_row(update["items"]) / jnp.where(weights == 0, 1, weights)
        return user / _or_one(jnp.linalg.norm(user))

    def item_row(public: Any, user: jax.Array) -> jax.Array:
        return user * public["weights"]

    return _recommender(scale, dim, std, predict, layers, read_user, item_row)


def ncf(
    scale: RatingScale,
    *,
    dim: int = 64,
    std: float = 0.1,
    widths: Sequence[int] = (128, 64, 32),
    activation: str = "relu",
) -> Recommender:
    """Neural collaborative filtering: dense layers over user and item side by side.

    Args:
      scale: of the ratings.
      dim: entries of an embedding.
      std: of the normal distribution that embeddings start from.
      widths: units of each hidden layer.
      activation: between the layers, one of `ACTIVATIONS`.
    """
    check_choice("activation", activation, ACTIVATIONS)
    for i, width in enumerate(widths):
        check_positive(f"widths[{i}]", width)
    sizes = (2 * dim, *widths, 1)

    def predict(public: Any, user: jax.Array) -> jax.Array:
        # The first layer on [user, item] as two products: the user's is one row.
        first, *rest = public["layers"]
        x = user @ first["kernel"][:dim] + public["items"] @ first["kernel"][dim:]
        x = x + first["bias"]
        for layer in rest:
            x = ACTIVATIONS[activation](x) @ layer["kernel"] + layer["bias"]
        return x[..., 0]

    def layers(key: jax.Array) -> dict[str, Any]:
        keys = jax.random.split(key, len(sizes) - 1)
        return {
            "layers": [
                {
                    "kernel": jax.nn.initializers.he_normal()(k, (rows, columns)),
                    "bias": jnp.zeros(columns),
                }
                for k, rows, columns in zip(keys, sizes[:-1], sizes[1:], strict=True)
            ]
        }

    def read_user(public: Any, update: Any) -> jax.Array:
        # The user's entries enter beside a bias: a row of the kernel's gradient is the
        # entry times the bias's gradient (Phong et al. 2018, for any first layer).
        first = update["layers"][0]
        bias = first["bias"] / _or_one(jnp.max(jnp.abs(first["bias"])))
        rows = first["kernel"][:dim] / _or_one(jnp.max(jnp.abs(first["bias"])))
        return rows @ bias / _or_one(bias @ bias)

    return _recommender(scale, dim, std, predict, layers, read_user)


RECOMMENDERS: dict[str, Callable[..., Recommender]] = {
    "gmf": gmf,
    "mf": mf,
    "ncf": ncf,
}
"""Every recommender that has a name."""


def build_recommender(name: str, scale: RatingScale, **options: Any) -> Recommender:
    """A recommender by name.

    Raises:
      InputError: the name or an option is unknown or out of range.
    """
    if name not in RECOMMENDERS:
        raise InputError(f"model is {name!r}; {nearest(name, RECOMMENDERS)}")
    check_options(name, RECOMMENDERS[name], options)
    return RECOMMENDERS[name](scale, **options)


def _recommender(
    scale: RatingScale,
    dim: int,
    std: float,
    predict: Callable[[Any, jax.Array], jax.Array],
    layers: Callable[[jax.Array], dict[str, Any]],
    read_user: Callable[[Any, Any], jax.Array],
    item_row: Callable[[Any, jax.Array], jax.Array] | None = None,
) -> Recommender:
    check_positive("dim", dim)
    if not std > 0:
        raise InputError(f"std is {std}; expected above 0")

    def init(key: jax.Array, num_items: int) -> dict[str, Any]:
        key_items, key_layers = jax.random.split(key)
        items = std * jax.random.normal(key_items, (num_items, dim))
        return {"items": items, **layers(key_layers)}

    def init_user(key: jax.Array) -> jax.Array:
        return std * jax.random.normal(key, (dim,))

    return Recommender(init, init_user, predict, scale, dim, read_user, item_row)


def _inner(items: jax.Array, user: jax.Array) -> jax.Array:
    return items @ user if user.ndim == 1 else jnp.sum(items * user, -1)


def leading_row(rows: jax.Array) -> jax.Array:
    """`[D]`, the right singular vector of `[N, D]`, of length 1 (0 for zeros)."""
    start = rows[jnp.argmax(jnp.sum(rows**2, -1))]

    def unit(x: jax.Array) -> jax.Array:
        # By the largest entry first: squares of small gradients vanish in float32.
        x = x / _or_one(jnp.max(jnp.abs(x)))
        return x / _or_one(jnp.linalg.norm(x))

    def body(_: int, x: jax.Array) -> jax.Array:
        return unit(unit(rows @ x) @ rows)

    return jax.lax.fori_loop(0, POWER_STEPS, body, unit(start))


def _or_one(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 1)
