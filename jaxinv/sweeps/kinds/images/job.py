"""One job of a sweep of images: a batch, and its rows."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxinv import attacks
from jaxinv.attacks.base import Attack
from jaxinv.audits.images.attacker import Threat
from jaxinv.audits.images.judge import Judge
from jaxinv.client import Client, simulate
from jaxinv.data import ImageData
from jaxinv.observation import Observation
from jaxinv.population import Run
from jaxinv.release import Release
from jaxinv.sweeps.kinds.base import (
    COLUMNS,
    SEARCHED,
    Searched,
    Winner,
    described,
    starts_of,
)
from jaxinv.target import Batch, Params, Target

IMAGE_COLUMNS = {
    **COLUMNS,
    **SEARCHED,
    "batch": "int64",
    "batch_size": "int64",
    "psnr": "float64",
    "ssim": "float64",
    "mse": "float64",
    "lpips": "float64",
    "rank": "int64",
    "identified": "bool",
    "label_true": "int64",
    "label_found": "int64",
    "true": "binary",
    "recovered": "binary",
}
"""The last two are PNG files."""

_OF_NO_PROGRAM = ("seed", "num_examples", "withhold", "grant", "lpips")
_OF_NO_PROGRAM += ("sampling_rate", "dp_rounds", "delta", "attack_options")


class Scene(NamedTuple):
    """What the jobs of one point have in common."""

    data: ImageData
    target: Target
    client: Client
    """With its defences, compiled."""
    release: Release
    """Without them."""
    sent_to: str
    """Which params."""
    params: Callable[[], Params]
    judge: Judge


@dataclass(frozen=True)
class BatchJob(Searched):
    """One batch of one client's examples, under one attacker."""

    scene: Scene
    threat: Threat
    batch: int
    """Which of the client's batches."""

    @property
    def examples(self) -> np.ndarray:
        """Where the batch's examples stand in the data."""
        config = self.point.config
        start = self.batch * config.batch_size
        return np.arange(start, min(start + config.batch_size, config.num_examples))

    @property
    def sent_to(self) -> str:
        """Jobs of one seed and model share the params."""
        return self.scene.sent_to

    @property
    def restarts(self) -> int:
        """As the attack was asked for."""
        return self.point.config.restarts

    @property
    def precision(self) -> str | None:
        """As the attack was asked for."""
        return self.point.config.precision

    @property
    def numbers(self) -> Mapping[str, Any]:
        """All options of the attack."""
        return self.point.config.attack_options

    def signature(self) -> dict[str, Any]:
        """Equal for jobs that one program serves, but for `numbers`."""
        found = described(self.point.config)
        for name in _OF_NO_PROGRAM:
            del found[name]
        if self.threat.name == "blind":
            # Who knows no defence runs one program against all of them.
            del found["defense"], found["draws"]
        return found | {
            "threat": self.threat[:2],
            "size_of_batch": len(self.examples),
        }

    def maker(self, without: Sequence[str] = ()) -> Callable[..., Attack]:
        """Of an attacker who takes the client to do what the threat says."""
        config = self.point.config
        given = self.threat.options(config)
        settled = {k: v for k, v in given.items() if k not in without}
        return attacks.maker(config.attack, self.scene.target, **settled)

    def observation(self) -> Observation:
        """What the attacker sees; the same whenever it is asked for."""
        scene, config = self.scene, self.point.config
        pixels = jnp.asarray(scene.data.x[self.examples], jnp.float32) / 255.0
        labels = jnp.asarray(scene.data.y[self.examples])
        batch = Batch(scene.target.spec.normalise(pixels), labels)
        return simulate(
            jax.random.split(jax.random.key(config.seed))[1],
            scene.target,
            scene.params(),
            batch,
            release=scene.client,
            grant=self.threat.granted,
            sent="gradient" if scene.client.local is None else "weights",
        )

    def keys(self, restarts: int) -> jax.Array:
        """`[restarts]`, as in an audit of the same settings."""
        key = jax.random.split(jax.random.key(self.point.config.seed))[1]
        return jax.random.split(jax.random.fold_in(key, self.batch), restarts)

    def blank(self) -> list[dict[str, Any]]:
        """A row for each image of the batch."""
        config = self.point.config
        about = self.about() | {
            "target": str(config.target),
            "data": self.scene.data.name,
            "attacker": self.threat.name,
            "batch": self.batch,
            "batch_size": config.batch_size,
            "iterations": config.iterations,
        }
        none = dict.fromkeys(IMAGE_COLUMNS)
        return [none | about | {"index": int(index)} for index in self.examples]

    def rows(self, winner: Winner, *, pictures: bool) -> list[dict[str, Any]]:
        """A row for each image of the batch."""
        kept = jax.tree.map(lambda leaf: np.asarray(leaf)[None], winner.found)
        found = winner.found.replace(  # pyright: ignore
            stats={
                "kept": kept,
                "scores": np.asarray(winner.scores),
                "statuses": np.asarray(winner.statuses),
            }
        )
        none = np.zeros(0)
        judged = self.scene.judge(self.examples, Run(found, none, none, 0.0, False))
        rows = self.blank()
        each = zip(rows, judged.examples, judged.pictures, strict=True)
        for row, example, images in each:
            row.update(starts_of(winner))
            row.update((k, v) for k, v in example.items() if k in IMAGE_COLUMNS)
            if pictures:
                row.update(true=_png(images.true), recovered=_png(images.found))
        return rows


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(
        stream, "png"
    )
    return stream.getvalue()
