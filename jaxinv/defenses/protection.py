"""Protection: a release through a defence, which is a release again.

A defence of updates is an `optax.GradientTransformation`, so it composes by
`optax.chain`, trains a model as any other one does, and differentiates. Those that draw
hold a typed key in their state, as `jax.random.key` makes it; `protect` replaces every
one by its own share of the release's key, so that the same key draws the same noise.
An attack that knows the defence matches the protected release; one that does not, the
plain one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxinv.errors import InputError
from jaxinv.local_training import LocalTraining
from jaxinv.options import check_positive
from jaxinv.release import Release, trained
from jaxinv.target import Params

Defense = optax.GradientTransformation
"""Of updates; see `jaxinv.defenses.DEFENSES` for defences of other kinds."""


@dataclass(frozen=True)
class Protected:
    """The release of `protect`."""

    release: Release
    """What the client would send."""
    defense: Defense
    """What it does to that first."""

    @property
    def local(self) -> LocalTraining | None:
        """How the client trains; None for a release without local training."""
        return getattr(self.release, "local", None)

    def __call__(self, key: jax.Array, params: Params, batch: Any) -> Any:
        """The update that leaves the client, as `trained(params)`."""
        own, drawn = jax.random.split(key)
        update = self.release(own, params, batch)
        weights = trained(params)
        state = keyed(self.defense.init(weights), drawn)
        return self.defense.update(update, state, weights)[0]


def protect(release: Release, *defenses: Defense) -> Protected:
    """The release through defences of updates, the first one first.

    Args:
      release: what the client would send.
      *defenses: at least one; every one starts anew at every release.

    Raises:
      InputError: no defence is given, or one is not an optax transformation.
    """
    if not defenses:
        raise InputError("defenses is empty; expected at least one transformation")
    for defense in defenses:
        if not isinstance(defense, optax.GradientTransformation):
            raise InputError(
                f"defense is {defense!r}; expected an optax.GradientTransformation"
            )
    whole = defenses[0] if len(defenses) == 1 else optax.chain(*defenses)
    return Protected(release, whole)


def keyed(state: Any, key: jax.Array) -> Any:
    """The state of a transformation with every typed key in it drawn from `key`."""
    leaves, structure = jax.tree.flatten(state)
    return jax.tree.unflatten(
        structure,
        [
            jax.random.fold_in(key, i) if _is_key(leaf) else leaf
            for i, leaf in enumerate(leaves)
        ],
    )


@dataclass(frozen=True)
class Expected:
    """The release of `expected`."""

    release: Release
    """What is averaged."""
    draws: int
    """How many times."""

    @property
    def local(self) -> LocalTraining | None:
        """How the client trains; None for a release without local training."""
        return getattr(self.release, "local", None)

    def __call__(self, key: jax.Array, params: Params, batch: Any) -> Any:
        """The mean update, as `trained(params)`."""
        keys = jax.random.split(key, self.draws)
        if self.draws == 1:
            return self.release(keys[0], params, batch)
        updates = jax.vmap(self.release, (0, None, None))(keys, params, batch)
        return jax.tree.map(lambda leaf: leaf.mean(0), updates)


def expected(release: Release, draws: int) -> Expected:
    """The mean of several draws of a release that draws.

    What an attacker matches who knows the defence and not what it drew. Source:
    Athalye et al., "Synthesizing Robust Adversarial Examples", ICML 2018, arXiv
    1707.07397 (expectation over transformation).

    Raises:
      InputError: `draws` is not a positive integer.
    """
    check_positive("draws", draws)
    return Expected(release, draws)


def _is_key(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
