"""What an attacker can tell of its own result, without the truth.

An update explained is no picture found: most of a gradient's length is often in layers
that see the label alone. So what a result explains is held against what a grey picture
explains, against the same attack on a wrong update, and the starts against each other.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv import metrics
from jaxinv.attacks.base import Status
from jaxinv.audits.facts import number
from jaxinv.observation import Observation
from jaxinv.release import Release
from jaxinv.run import Run
from jaxinv.target import Batch, Spec

_COMPARED = 8
"""Starts that are held against each other, the best ones."""


class Evidence(NamedTuple):
    """One attack's result as the attacker sees it."""

    run: Run
    unexplained: float
    """Share of the update's squared length that the result leaves, 0 to 1."""
    grey: float
    """The same of grey pictures with the labels found."""
    agreement: float | None
    """Median PSNR between the result and the best half of the other starts, dB; None
    where there is one start."""
    pixels: np.ndarray
    """`[N, H, W, C]`, in [0, 1] or a little beyond."""
    second: np.ndarray | None
    """The next best start, in the order of `pixels`."""
    labels: np.ndarray
    """`[N]`."""

    def facts(self) -> dict[str, Any]:
        """For the record."""
        found = self.run.found
        return {
            "score": number(found.score),
            "status": Status(int(found.status)).name,
            "unexplained": number(self.unexplained),
            "unexplained_grey": number(self.grey),
            "agreement": None if self.agreement is None else number(self.agreement),
            "scores": [number(s) for s in np.ravel(found.stats["scores"])],
            "labels": self.labels.tolist(),
        }


def weigh(run: Run, release: Release, observation: Observation, spec: Spec) -> Evidence:
    """The evidence of one run.

    Args:
      run: what the attack returned.
      release: what it took the client to do.
      observation: what it was given.
      spec: for the normalisation.
    """
    best = run.found.batch
    pixels = np.asarray(spec.denormalise(jnp.asarray(best.inputs)))
    grey = spec.normalise(jnp.full(jnp.shape(best.inputs), 0.5))
    kept = run.found.stats["kept"]
    num = jax.tree.leaves(kept.batch)[0].shape[0]
    # Half of the starts, for some always end in a valley of their own.
    others = [
        _aligned(
            pixels, np.asarray(spec.denormalise(jnp.asarray(kept.batch.inputs[i])))
        )
        for i in range(1, min(num, _COMPARED, 1 + (num + 1) // 2))
        if np.isfinite(kept.score[i])
    ]
    near = [
        float(np.mean(metrics.psnr(jnp.clip(pixels, 0, 1), jnp.clip(other, 0, 1))))
        for other in others
    ]
    labels = np.asarray(best.labels)
    return Evidence(
        run,
        _unexplained(release, observation, best),
        _unexplained(release, observation, Batch(grey, jnp.asarray(best.labels))),
        float(np.median(near)) if near else None,
        pixels,
        others[0] if others else None,
        labels.argmax(-1) if labels.ndim == 2 else labels,
    )


def permuted(observation: Observation, seed: int) -> Observation:
    """An update of the same size that no data has: its numbers, permuted in each leaf.

    Args:
      observation: of one round.
      seed: of the permutations.
    """
    rng = np.random.default_rng(seed)

    def shuffled(leaf: Any) -> jax.Array:
        values = np.asarray(leaf)
        return jnp.asarray(rng.permutation(values.ravel()).reshape(values.shape))

    update = jax.tree.map(shuffled, observation.update)
    return observation.replace(update=update)  # pyright: ignore


def _unexplained(release: Release, observation: Observation, batch: Any) -> float:
    """One minus the squared cosine: whatever the length of the guess's update."""
    params, update = observation.round(0)
    batch = jax.tree.map(jnp.asarray, batch)
    guess = release(jax.random.key(0), params, batch)
    if observation.known.visible is not None:
        shown = observation.shown(0)
        guess = jax.tree.map(lambda g, s: jnp.where(s, g, 0), guess, shown)
    pairs = list(zip(jax.tree.leaves(guess), jax.tree.leaves(update), strict=True))
    dot, one, other = (
        float(
            sum(
                np.vdot(np.asarray(a, np.float64), np.asarray(b, np.float64))
                for a, b in p
            )
        )
        for p in (pairs, [(g, g) for g, _ in pairs], [(u, u) for _, u in pairs])
    )
    if not np.isfinite(one) or one * other == 0:
        return 1.0
    return float(np.clip(1 - max(dot, 0.0) ** 2 / (one * other), 0, 1))


def _aligned(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return second[np.asarray(metrics.align(jnp.asarray(first), jnp.asarray(second)))]
