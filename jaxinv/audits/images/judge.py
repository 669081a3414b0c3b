"""Judging: the truth beside what an attack returned, example by example.

Everything here knows the truth, and comes after the attack. "Found" is what the attack
chose by its own score; "oracle" is the start nearest the truth, which no attacker can
know, shown so that a weak score is not taken for a weak attack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv import metrics
from jaxinv.attacks.base import Status
from jaxinv.audits.facts import number
from jaxinv.data import ImageData
from jaxinv.history import NOWHERE, Spread
from jaxinv.run import Run
from jaxinv.target import Batch, Spec


class ExamplePictures(NamedTuple):
    """One example as uint8 `[H, W, C]` pictures."""

    index: int
    """In the data."""
    true: np.ndarray
    """What the client had."""
    found: np.ndarray
    """What the attack returned, chosen by its own score."""
    oracle: np.ndarray
    """The start that is nearest the truth; no attacker can make this choice."""


class Curve(NamedTuple):
    """How the score fell on one batch."""

    batch: int
    """Index of the batch."""
    steps: np.ndarray
    """`[R]` steps taken."""
    score: np.ndarray
    """`[R]` the attack's score there."""
    restart_scores: np.ndarray
    """`[restarts]` final score of every start."""
    kept: np.ndarray = np.empty((0, 2))
    """`[kept, 2]` final score and PSNR in dB, the mean over the batch, of the best
    starts by score."""
    spread: Spread = NOWHERE
    """Of all starts' scores at those steps."""


def curve_of(batch: int, run: Run) -> Curve:
    """How the score fell in a run; `batch` is its index in the audit."""
    scores = np.asarray(run.found.stats["scores"])
    return Curve(batch, run.steps, run.scores, scores, spread=run.spread)


@dataclass
class Judged:
    """One batch after the truth was brought in."""

    run: Run
    examples: list[dict[str, Any]]
    pictures: list[ExamplePictures]
    kept: np.ndarray
    """See `Curve`."""

    def curve(self, batch: int) -> Curve:
        """How the score fell; `batch` is its index in the audit."""
        return curve_of(batch, self.run)._replace(kept=self.kept)


class Judge:
    """Holds an audit's data and weights of metrics, and judges batch after batch."""

    def __init__(
        self, spec: Spec, data: ImageData, lpips: metrics.LPIPSWeights | None = None
    ) -> None:
        """Takes what is the same for all batches.

        Args:
          spec: of the target, for its normalisation.
          data: the batch's images and the pool they are to be told apart from.
          lpips: weights of the perceptual distance; None leaves it out.
        """
        self._spec, self._data, self._lpips = spec, data, lpips
        self._pool = jnp.asarray(data.x, jnp.float32) / 255.0
        # Compiled, for a sweep judges thousands; the pool is no constant of it.
        self._measure = jax.jit(self._measured)

    def __call__(self, chosen: np.ndarray, run: Run) -> Judged:
        """Metrics of one batch: the winner, and apart the restart nearest the truth.

        Args:
          chosen: `[N]` where the batch's examples stand in the data.
          run: what the attack returned.
        """
        found, kept = run.found, run.found.stats["kept"]
        measured, means = jax.device_get(
            self._measure(self._pool, jnp.asarray(chosen), found.batch, kept.batch)
        )
        examples, pictures = [], []
        for i, index in enumerate(chosen.tolist()):
            one = {name: values[i] for name, values in measured.items()}
            true_label, found_label = int(self._data.y[index]), int(one["label"])
            example = {
                "index": index,
                "psnr": number(one["psnr"]),
                "ssim": number(one["ssim"]),
                "mse": number(one["mse"]),
                "label_true": true_label,
                "label_found": found_label,
                "class_true": _class_name(self._data, true_label),
                "class_found": _class_name(self._data, found_label),
                "score": number(found.score),
                "status": Status(int(found.status)).name,
                "oracle_psnr": number(one["oracle_psnr"]),
                "rank": int(one["rank"]),
                "identified": int(one["rank"]) == 0,
            }
            if "lpips" in one:
                example["lpips"] = number(one["lpips"])
            examples.append(example)
            shown = (_picture(one[name]) for name in ("true", "found", "oracle"))
            pictures.append(ExamplePictures(index, *shown))
        ends = np.asarray(kept.score, float).reshape(-1)
        return Judged(run, examples, pictures, np.stack([ends, means], 1))

    def _measured(
        self, pool: jax.Array, chosen: jax.Array, batch: Batch, kept: Batch
    ) -> tuple[dict[str, jax.Array], jax.Array]:
        """Leaves `[N, ...]` in the order of the truth; mean PSNR of those kept."""
        truth = pool[chosen]
        guess, labels, psnr = self._aligned(truth, batch)
        others, _, scores = jax.lax.map(lambda one: self._aligned(truth, one), kept)
        nearest = jnp.argmax(jnp.nan_to_num(scores, nan=-1.0).mean(-1))
        found = {
            "true": truth,
            "found": guess,
            "oracle": others[nearest],
            "label": labels,
            "psnr": psnr,
            "oracle_psnr": scores[nearest],
            "mse": metrics.mse(truth, guess),
            "ssim": _ssim(truth, guess),
            "rank": metrics.identifiability(guess, pool, chosen),
        }
        perceived = self._perceived(truth, guess)
        found |= {} if perceived is None else {"lpips": perceived}
        return found, scores.mean(-1)

    def _aligned(self, truth: jax.Array, batch: Batch):
        """Pixels, labels and PSNR of a guess, in the order of the truth."""
        guess = self._spec.denormalise(jnp.asarray(batch.inputs))
        order = metrics.align(truth, guess)
        labels = jnp.asarray(batch.labels)
        if labels.ndim == 2:
            labels = labels.argmax(-1)
        return guess[order], labels[order], metrics.psnr(truth, guess[order])

    def _perceived(self, truth: jax.Array, guess: jax.Array) -> jax.Array | None:
        if self._lpips is None:
            return None
        # AlexNet needs 31 pixels a side; smaller pictures are seen at 64.
        size = 64 if min(truth.shape[1:3]) < 31 else None
        return metrics.lpips(self._lpips, truth, guess, size=size)


def _ssim(truth: jax.Array, guess: jax.Array) -> jax.Array:
    # Images smaller than the window have no structural similarity.
    if min(truth.shape[1:3]) < 11:
        return jnp.full(truth.shape[:1], jnp.nan)
    return metrics.ssim(truth, guess)


def _class_name(data: ImageData, label: int) -> str:
    return data.class_names[label] if label < data.num_classes else str(label)


def _picture(pixels: np.ndarray) -> np.ndarray:
    finite = np.nan_to_num(np.asarray(pixels, np.float64), nan=0.0)
    return np.round(np.clip(finite, 0.0, 1.0) * 255).astype(np.uint8)
