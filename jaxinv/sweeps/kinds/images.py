"""Sweeps of images: each job is one batch under one attacker."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxinv import attacks, models
from jaxinv.attacks.base import Attack
from jaxinv.audits.defenses.record import CEILING
from jaxinv.audits.facts import interval, number
from jaxinv.audits.images import AuditConfig
from jaxinv.audits.images.attacker import Threat, threats
from jaxinv.audits.images.audit import client_of, spec_of
from jaxinv.audits.images.config import LOCAL
from jaxinv.audits.images.judge import Judge
from jaxinv.client import Client, simulate
from jaxinv.data import ImageData, load_images
from jaxinv.errors import InputError
from jaxinv.metrics import load_lpips
from jaxinv.observation import Observation
from jaxinv.population import Run
from jaxinv.release import Release
from jaxinv.sweeps.kinds.base import (
    COLUMNS,
    SEARCHED,
    Kind,
    Made,
    Point,
    Searched,
    Winner,
    decided,
    described,
)
from jaxinv.target import Batch, Params, Target

_OWN_COLUMNS = {
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

_KEPT_PARAMS = 2
"""Of the seeds, for jobs of one seed run together."""

_DATA = ("data", "size")
_POOL = (*_DATA, "normalise", "lpips")
_MODEL = (*_POOL, "target", "target_options")
_CLIENT = (*_MODEL, "defense", *sorted(LOCAL))
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

    def rows(self, winner: Winner, *, pictures: bool) -> list[dict[str, Any]]:
        """A row for each image of the batch."""
        config = self.point.config
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
        about = self.about() | {
            "target": str(config.target),
            "data": self.scene.data.name,
            "attacker": self.threat.name,
            "batch": self.batch,
            "batch_size": config.batch_size,
            "restarts": len(winner.scores),
            "iterations": config.iterations,
            "scores": list(winner.scores),
            "statuses": list(winner.statuses),
        }
        rows = []
        for example, images in zip(judged.examples, judged.pictures, strict=True):
            row = dict.fromkeys(IMAGES.columns) | about
            row |= {k: v for k, v in example.items() if k in IMAGES.columns}
            if pictures:
                row |= {"true": _png(images.true), "recovered": _png(images.found)}
            rows.append(row)
        return rows


class ImageScenes:
    """Data, targets, clients and parameters, each made once."""

    def __init__(self) -> None:
        self._once = Made()
        self._params: dict[str, Params] = {}
        self._data: dict[str, ImageData] = {}
        self._lpips: dict[str, str] = {}

    def jobs(self, point: Point, numbers: Iterator[int]) -> Iterator[BatchJob]:
        """A job for each batch and attacker.

        Raises:
          InputError: a sweep cannot run the point.
          OSError: a file cannot be read.
        """
        config = point.config
        scene, local = self._of(config), config.local_training() is not None
        found = threats(config, scene.target, scene.release, local=local)
        for threat in found:
            for batch in range(-(-config.num_examples // config.batch_size)):
                yield BatchJob(next(numbers), point, scene, threat, batch)

    def fingerprints(self) -> dict[str, str]:
        """Of data, and of the weights of LPIPS."""
        found = dict(self._lpips)
        for name, data in self._data.items():
            digest = hashlib.sha256(np.ascontiguousarray(data.x).data)
            digest.update(np.ascontiguousarray(data.y).data)
            found[name] = digest.hexdigest()
        return found

    def sizes(self) -> dict[str, int]:
        """Images from which a recovered one is told."""
        return {data.name: len(data.x) for data in self._data.values()}

    def _of(self, config: AuditConfig) -> Scene:
        if config.halving:
            raise InputError("halving is True; a sweep runs every start to its end")
        data = self._once(
            config, _DATA, lambda: load_images(config.data, size=config.size)
        )
        self._data[f"{data.name}, {data.x.shape}"] = data
        if config.num_examples > len(data.x):
            raise InputError(
                f"num_examples is {config.num_examples}; the data holds {len(data.x)}"
            )

        def pool() -> Judge:
            weights = None
            if config.lpips is not None:
                weights = load_lpips(config.lpips)
                digest = hashlib.sha256(Path(config.lpips).read_bytes()).hexdigest()
                self._lpips[f"LPIPS, {config.lpips}"] = digest
            return Judge(spec_of(config, data), data, weights)

        def model() -> tuple[Target, Any]:
            spec = spec_of(config, data)
            target = models.build(str(config.target), spec, **config.target_options)
            return target, jax.jit(target.init)

        judge = self._once(config, _POOL, pool)
        target, init = self._once(config, _MODEL, model)
        sent_to = decided(config, (*_MODEL, "seed"))

        def params() -> Params:
            if sent_to not in self._params:
                if len(self._params) == _KEPT_PARAMS:
                    del self._params[next(iter(self._params))]
                key = jax.random.split(jax.random.key(config.seed))[0]
                self._params[sent_to] = init(key)
            return self._params[sent_to]

        release, client = self._once(config, _CLIENT, lambda: client_of(config, target))
        return Scene(data, target, client, release, sent_to, params, judge)


def _config(attack: str, chain: tuple[str, ...], seed: int, **given: Any):
    config = AuditConfig(attack=attack, seed=seed, defense=chain, **given)
    if config.iterations is not None and not attacks.has_loop(attack):
        raise InputError(
            f"iterations is {config.iterations}; {attack} is a closed form and takes "
            "no steps"
        )
    return config


def _known(points: Sequence[Point]) -> list[str]:
    granted = [set(point.config.granted()) for point in points]
    return sorted(set.intersection(*granted))


def _line(
    rows: Sequence[Mapping[str, Any]], sizes: Mapping[str, int]
) -> dict[str, Any]:
    psnr = [row["psnr"] for row in rows if row["psnr"] is not None]
    capped = [min(value, CEILING) for value in psnr]
    ssim = [row["ssim"] for row in rows if row["ssim"] is not None]
    right = [row["label_true"] == row["label_found"] for row in rows]
    return {
        "psnr": number(np.mean(capped)) if psnr else None,
        "psnr_interval": interval(capped),
        "psnr_best": number(np.max(psnr)) if psnr else None,
        "ssim": number(np.mean(ssim)) if ssim else None,
        "chance": 1.0 / sizes[rows[0]["data"]],
        "identified": sum(bool(row["identified"]) for row in rows),
        "labels": float(np.mean(right)),
    }


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(
        stream, "png"
    )
    return stream.getvalue()


_OF_ATTACK = {"restarts", "iterations", "draws", "withhold", "grant", "precision"}
_PLACED = {"attack", "seed", "defense", "halving", "target_options", "attack_options"}

IMAGES = Kind(
    unit="example",
    config=_config,
    owner="target",
    of_case=frozenset({f.name for f in fields(AuditConfig)} - _PLACED),
    of_attack=frozenset(_OF_ATTACK),
    attacks=attacks.ATTACKS,
    takes_options=True,
    defended=True,
    columns={**COLUMNS, **SEARCHED, **_OWN_COLUMNS},
    pictured=("true", "recovered"),
    scenes=ImageScenes,
    known=_known,
    line=_line,
)
