"""Clients of `bench.encryption`: their updates, masks, costs and distance shares."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.defenses.encryption import (
    METRICS,
    CkksParameters,
    averaged,
    distance_shares,
    metric,
    overhead,
    positions,
    taken,
)
from jaxinv.layers import dense_layers
from jaxinv.release import gradient, trained
from jaxinv.target import Batch, Target, Variables

RATIOS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
FEWER = (0.01, 0.1, 0.3, 0.7)
METRIC_NAMES = tuple(name for name in METRICS if name != "product_exposed")
"""MaskCrypt's product with the sent weights orders as the magnitude does."""
STRATEGIES = (*METRIC_NAMES, "per_tensor", "averaged")
"""By metric, coordinates of the whole update; and of the magnitude: the same share of
each tensor, and one mask for all clients by the mean of their magnitudes. Beside them
"layer": whole layers by magnitude; and "output_bias", that alone at any ratio."""
STEP = 0.1
"""Step size between the round before and this one."""
NEAR = 0.01
"""Standard deviation of guesses near the truth, in normalised pixels."""
KINDS = {
    "l2, guesses": ("l2", None),
    "l2, near": ("l2", NEAR),
    "cosine, guesses": ("cosine", None),
    "cosine, near": ("cosine", NEAR),
}


class Client(NamedTuple):
    """One client."""

    update: Any
    """Its gradient, no leading axis."""
    label: np.ndarray


class Clients(NamedTuple):
    """All of them, on the host; leaves `[clients, ...]`."""

    pixels: jax.Array
    labels: np.ndarray
    updates: Any
    earlier: Any
    """Gradients of the round before."""
    places: dict[str, Any]
    """By strategy, `positions`; of "averaged" without the axis of clients."""
    places_earlier: dict[str, Any]
    """Of the round before, for random and magnitude."""

    @property
    def update(self) -> list[Any]:
        """By client."""
        return [self.one(i).update for i in range(len(self.labels))]

    def one(self, index: int) -> Client:
        """One of them."""
        return Client(
            jax.tree.map(lambda leaf: leaf[index], self.updates), self.labels[index]
        )


def clients_of(
    key: jax.Array, target: Target, params: Any, x: np.ndarray, y: np.ndarray
) -> Clients:
    """A client for each image `[M, H, W, C]` and label `[M]`."""
    pixels = jnp.asarray(x, jnp.float32) / 255
    labels = jnp.asarray(y, jnp.int32)
    release = gradient(target.loss)
    scored = {name: metric(name, target) for name in METRIC_NAMES}

    def scores(key: jax.Array, image: jax.Array, label: jax.Array):
        batch = Batch(target.spec.normalise(image)[None], label[None])
        update = release(key, params, batch)
        found = {
            name: one(jax.random.fold_in(key, i), params, batch, update)
            for i, (name, one) in enumerate(scored.items())
        }
        before = _moved(params, jax.tree.map(lambda u: STEP * u, update))
        return update, release(key, before, batch), found

    def ranked(key: jax.Array, image: jax.Array, label: jax.Array):
        update, earlier, found = scores(key, image, label)
        ties = jax.random.fold_in(key, 100)
        places = {name: positions(ties, tree) for name, tree in found.items()}
        sizes = found["magnitude"]
        places["per_tensor"] = positions(ties, sizes, granularity="per_tensor")
        places["layer"] = positions(ties, sizes, granularity="layer")
        other = jax.random.fold_in(key, 200)
        drawn = scored["random"](other, params, Batch(image, label), update)
        before = {
            "random": positions(other, drawn),
            "magnitude": positions(other, jax.tree.map(jnp.abs, earlier)),
        }
        return update, earlier, places, before

    keys = jax.random.split(key, len(labels))
    work = jax.jit(lambda *args: jax.lax.map(lambda a: ranked(*a), args))
    updates, earlier, places, before = jax.device_get(work(keys, pixels, labels))
    sizes = averaged(jax.tree.map(np.abs, updates))
    places["averaged"] = jax.device_get(jax.jit(positions)(key, sizes))
    return Clients(pixels, np.asarray(labels), updates, earlier, places, before)


def _moved(params: Any, step: Any) -> Any:
    moved = jax.tree.map(jnp.add, trained(params), step)
    return Variables(moved, params.state) if isinstance(params, Variables) else moved


def mask_of(
    clients: Clients, strategy: str, index: int, ratio: float, *, earlier: bool = False
) -> Any:
    """One client's mask, True where encrypted, of NumPy."""
    if strategy == "output_bias":
        return _output_bias(clients.one(index).update)
    source = clients.places_earlier if earlier else clients.places
    places = source["magnitude" if strategy == "none" else strategy]
    if strategy != "averaged":
        places = jax.tree.map(lambda leaf: leaf[index], places)
    granularity = strategy if strategy in ("per_tensor", "layer") else "coordinate"
    return taken(places, ratio, granularity=granularity)


def _output_bias(update: Any) -> Any:
    """The bias of the last dense layer with one and nothing else."""
    leaves, structure = jax.tree.flatten(update)
    dense = [layer for layer in dense_layers(update).values() if layer.bias is not None]
    masks = [np.full(leaf.shape, leaf is dense[-1].bias) for leaf in leaves]
    return jax.tree.unflatten(structure, masks)


def costs(clients: Clients) -> list[dict[str, Any]]:
    """The first client's ciphertexts and bytes, by strategy and ratio."""
    parameters = CkksParameters()
    rows = []
    for strategy in ("random", "magnitude", "layer"):
        for ratio in (0.0, *RATIOS, 1.0):
            cost = overhead(mask_of(clients, strategy, 0, ratio), parameters=parameters)
            rows.append({"strategy": strategy, "ratio": ratio, **cost._asdict()})
    return rows


def removed_shares(
    target: Target, params: Any, clients: Clients, rows: list[dict[str, Any]]
) -> None:
    """Adds to each row what its mask removes of each kind of distance."""
    release = gradient(target.loss)

    def shares(key: jax.Array, image: jax.Array, label: jax.Array):
        batch = Batch(target.spec.normalise(image)[None], label[None])
        return {
            name: distance_shares(
                key, release, params, batch, distance=distance, near=near
            )
            for name, (distance, near) in KINDS.items()
        }

    number = 1 + max((row["image"] for row in rows), default=-1)
    if not number:
        return
    keys = jax.random.split(jax.random.key(2), number)
    work = jax.jit(lambda *args: jax.lax.map(lambda a: shares(*a), args))
    found = jax.device_get(
        work(keys, clients.pixels[:number], jnp.asarray(clients.labels[:number]))
    )
    for row in rows:
        mask = mask_of(clients, row["strategy"], row["image"], row["ratio"])
        for name, tree in found.items():
            parts = jax.tree.map(lambda s, m: s[row["image"]][m].sum(), tree, mask)
            row[f"removed ({name})"] = float(sum(jax.tree.leaves(parts)))
