"""The scenes of a sweep of images: data, targets, clients and parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxinv import models
from jaxinv.audits.images import AuditConfig
from jaxinv.audits.images.attacker import threats
from jaxinv.audits.images.audit import client_of, spec_of
from jaxinv.audits.images.config import LOCAL
from jaxinv.audits.images.judge import Judge
from jaxinv.data import ImageData, load_images
from jaxinv.errors import InputError
from jaxinv.metrics import load_lpips
from jaxinv.sweeps.kinds.base import Made, Point, decided
from jaxinv.sweeps.kinds.images.job import BatchJob, Scene
from jaxinv.target import Params, Target

_KEPT_PARAMS = 2
"""Of the seeds, for jobs of one seed run together."""

_DATA = ("data", "size")
_POOL = (*_DATA, "normalise", "lpips")
_MODEL = (*_POOL, "target", "target_options")
_CLIENT = (*_MODEL, "defense", *sorted(LOCAL))


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
