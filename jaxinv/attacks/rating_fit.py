"""What embeddings explain of a recommender's rounds: ratings that fit, what is left.

The gradient of a squared error, and of a cross-entropy, is affine in the ratings, and
an item's row depends on its own rating alone. So for given embeddings the ratings need
no search: each is one weighted mean over rounds (variable projection, Golub and Pereyra
1973), and what is left of the updates is a function of the embeddings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxinv.attacks.levenberg_marquardt import sum_of_squares
from jaxinv.models.recommenders import Recommender
from jaxinv.observation import Observation
from jaxinv.rounds import round_weights

ITEMS = ("same", "own", "all")
"""Which items a client is taken to have trained on, see `trained_items`."""


class Seen(NamedTuple):
    """The rounds as the search wants them."""

    public: Any
    """Leaves `[M, ...]`."""
    update: Any
    """Leaves `[M, ...]`, divided by the round's norm, other items' rows 0."""
    norm: jax.Array
    """`[M]`, the norms; 1 for a missing round, whose update is 0."""
    trained: jax.Array
    """`[M, N]` floats, 1 for an item that the client trained on in the round."""


class Outer(NamedTuple):
    """Rows that are multiples of one: of a gradient of a bilinear model."""

    along: jax.Array
    """`[M, N]`."""
    row: jax.Array
    """`[M, D]`."""


class Fit(NamedTuple):
    """Ratings that fit, and the updates that they make."""

    ratings: jax.Array
    """`[M, N]`, in a profile's units, of any size unless a box was given."""
    weight: jax.Array
    """`[M, N]`: how much the match grows with the square of a rating's error."""
    update: Any
    """Leaves `[M, ...]`, times the root of what the round counts in the match; `items`
    is an `Outer` for bilinear models."""


def trained_items(observation: Observation, items: str) -> jax.Array:
    """`[M, N]` bools, the items behind each round's update.

    "same": rows that moved in any round, for a client that trains on the same items in
    all. "own": rows that moved in the round, where negatives are drawn anew. "all":
    every item is a candidate. Where noise moves all rows, those are taken that stand
    out from the median row further than noise does once in ten updates; the client
    must then have trained on less than half of the items.
    """
    there = round_weights(observation) > 0
    rows = jnp.where(there[:, None, None], observation.update["items"], 0)
    if items == "own":
        return jnp.any(rows != 0, axis=2)
    if items == "same":
        found = jnp.any(rows != 0, axis=(0, 2))
        return jnp.broadcast_to(found, rows.shape[:2])
    energy = jnp.sum((rows / _or_one(jnp.max(jnp.abs(rows)))) ** 2, 2)
    middle = jnp.median(energy, axis=1, keepdims=True)
    noisy = middle > 0
    clear = jnp.where(energy > 0, jnp.inf, 0)
    shares = jnp.where(noisy, energy / _or_one(middle), clear)
    # The sum over rounds is chi-squared; Wilson and Hilferty 1931 for its quantiles.
    degrees = rows.shape[2] * jnp.maximum(there.sum(), 1)

    def quantile(z: jax.Array | float, degrees: jax.Array | int) -> jax.Array:
        spread = 2 / (9 * degrees)
        return (1 - spread + z * jnp.sqrt(spread)) ** 3

    rare = jax.scipy.stats.norm.ppf(1 - 0.1 / rows.shape[1])
    limit = there.sum() * quantile(rare, degrees) / quantile(0, rows.shape[2])
    found = shares.sum(0) > jnp.where(noisy.any(), limit, 0)
    return jnp.broadcast_to(found, rows.shape[:2])


def seen(observation: Observation, items: str) -> Seen:
    """The rounds, normalised; pure and cheap beside a step of the search."""
    trained = trained_items(observation, items)
    update = dict(observation.update)
    update["items"] = jnp.where(trained[..., None], update["items"], 0)
    there = round_weights(observation) > 0

    def per_round(factor: jax.Array, tree: Any) -> Any:
        return jax.tree.map(
            lambda x: x * factor.reshape(-1, *([1] * (x.ndim - 1))), tree
        )

    def norms(tree: Any) -> jax.Array:
        leaves = jax.tree.leaves(tree)
        return jnp.sqrt(sum(jnp.sum(x**2, range(1, x.ndim)) for x in leaves))

    # By the largest entry first: squares of small gradients vanish in float32.
    largest = jnp.stack(
        [jnp.max(jnp.abs(x), range(1, x.ndim)) for x in jax.tree.leaves(update)]
    ).max(0)
    largest = _or_one(largest)
    update = per_round(jnp.where(there, 1 / largest, 0), update)
    length = _or_one(norms(update))
    update = per_round(1 / length, update)
    norm = jnp.where(there, largest * length, 1)
    return Seen(observation.params, update, norm, trained.astype(norm.dtype))


def fit(
    model: Recommender,
    rounds: Seen,
    users: jax.Array,
    votes: jax.Array,
    matched: jax.Array,
    *,
    box: tuple[float, float] | None = None,
) -> Fit:
    """The ratings for which the item rows match best, and what is left.

    Args:
      model: what the client trains.
      rounds: from `seen`.
      users: `[M, D]`, its embedding in each.
      votes: `[M, M]`, how much each round counts for the ratings of each.
      matched: `[M]`, how much each round counts in the match.
      box: what ratings are clipped to.
    """
    share = rounds.trained / (_or_one(rounds.trained.sum(1)) * rounds.norm)[:, None]
    given = rounds.update["items"]
    bilinear = model.item_row is not None
    # Row j of a gradient is `share * (slope at rating 0 - steep * rating) * rows[j]`.
    if model.item_row is not None:
        rows = jax.vmap(model.item_row)(rounds.public, users)
        predicted = jnp.einsum("mnd,md->mn", rounds.public["items"], rows)
        along = jnp.einsum("mnd,md->mn", given, rows)
        length2 = jnp.sum(rows**2, 1, keepdims=True)
    else:
        predicted, rows = jax.vmap(lambda *pair: _rows(model, *pair))(
            rounds.public, users
        )
        along, length2 = jnp.sum(given * rows, 2), jnp.sum(rows**2, 2)
    at_zero = model.slopes(predicted, jnp.zeros_like(predicted))
    steep = at_zero - model.slopes(predicted, jnp.ones_like(predicted))
    square = (share * steep) ** 2 * length2
    inner = share * steep * (share * at_zero * length2 - along)
    weight = votes @ square
    ratings = jnp.where(weight > 0, votes @ inner / _or_one(weight), 0)
    if box is not None:
        ratings = jnp.clip(ratings, *box)
    slopes = share * (at_zero - steep * ratings)

    root = jnp.sqrt(matched)
    along = root[:, None] * slopes
    update = {"items": Outer(along, rows) if bilinear else along[..., None] * rows}
    layers = {name: x for name, x in rounds.public.items() if name != "items"}
    if layers:
        pulled = jax.vmap(lambda *parts: _pulled(model, *parts))
        update |= pulled(layers, rounds.public["items"], users, along)
    return Fit(ratings, weight, update)


def match(rounds: Seen, matched: jax.Array, update: Any) -> jax.Array:
    """`[]`, the sum over rounds of the relative squared distance of the updates."""
    return sum_of_squares(_apart(rounds, matched, update))


def match_slope(rounds: Seen, matched: jax.Array, update: Any) -> Any:
    """Half the derivative of the match by the update, by its factors where it has."""
    apart = _apart(rounds, matched, update)
    if isinstance(update["items"], Outer):
        along, row = update["items"]
        apart["items"] = Outer(
            jnp.einsum("mnd,md->mn", apart["items"], row),
            jnp.einsum("mnd,mn->md", apart["items"], along),
        )
    return apart


def match_lengths(update: Any) -> Callable[[Any], Any]:
    """A change of the update in short: linear, with the same inner products.

    The change of an outer product, `d_along row + along d_row`, is parallel to the row
    in one part and across it in the other, which are orthogonal.
    """
    if not isinstance(update["items"], Outer):
        return lambda change: change
    along, row = update["items"]
    length = jnp.sqrt(jnp.sum(row**2, 1, keepdims=True))
    size = jnp.sqrt(jnp.sum(along**2, 1, keepdims=True))
    unit = row / _or_one(length)

    def short(change: Any) -> Any:
        d_along, d_row = change["items"]
        parallel = jnp.sum(unit * d_row, 1, keepdims=True)
        across = d_row - parallel * unit
        items = Outer(length * d_along + along * parallel, size * across)
        return {**change, "items": items}

    return short


def _apart(rounds: Seen, matched: jax.Array, update: Any) -> Any:
    """Differences from the updates that were seen, alike in weight."""

    def one(guess: jax.Array, seen: jax.Array) -> jax.Array:
        return guess - jnp.sqrt(matched).reshape(-1, *([1] * (seen.ndim - 1))) * seen

    items = update["items"]
    if isinstance(items, Outer):
        items = items.along[..., None] * items.row[:, None]
    return jax.tree.map(one, {**update, "items": items}, rounds.update)


def _rows(
    model: Recommender, public: Any, user: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Predictions `[N]` of one round and their derivatives by the items' rows."""

    def predict(items: jax.Array) -> jax.Array:
        return model.predict({**public, "items": items}, user)

    predicted, pull = jax.vjp(predict, public["items"])
    return predicted, pull(jnp.ones_like(predicted))[0]


def _pulled(
    model: Recommender, layers: Any, items: jax.Array, user: jax.Array, slopes: Any
) -> Any:
    """The gradient of one round by the public layers."""

    def predict(layers: Any) -> jax.Array:
        return model.predict({**layers, "items": items}, user)

    return jax.vjp(predict, layers)[1](slopes)[0]


def _or_one(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 1)
