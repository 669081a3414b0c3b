"""The audit: simulate a client, attack what it sends, judge what was recovered.

This is the only place where truth and attack meet, and they meet after the attack: a
client's batch makes the update, the attack sees the observation alone and picks its
result by its own score, and then the metrics compare.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv import attacks, models
from jaxinv.audits.images.config import AuditConfig
from jaxinv.audits.images.judge import Curve, ExamplePictures, Judge, Judged
from jaxinv.audits.images.record import record
from jaxinv.audits.progress import Progress
from jaxinv.client import Client, simulate
from jaxinv.data import ImageData, load_images
from jaxinv.errors import InputError
from jaxinv.fedavg import FedAvg
from jaxinv.halving import Halving
from jaxinv.interrupt import held_interrupt
from jaxinv.metrics import load_lpips
from jaxinv.release import Release, gradient
from jaxinv.run import Runner
from jaxinv.target import Batch, Spec, Target

# Beyond this much memory only the best reconstructions are kept for the oracle.
_KEPT_BYTES = 64 * 2**20


@dataclass
class AuditResult:
    """Everything an audit found out."""

    report: dict[str, Any]
    """What `report.json` holds; see `record`."""
    pictures: list[ExamplePictures]
    """One for each example."""
    curves: list[Curve]
    """One for each batch."""


def run_audit(
    config: AuditConfig, *, on_progress: Callable[[Progress], None] | None = None
) -> AuditResult:
    """Runs the audit that the configuration describes.

    Args:
      config: what to audit.
      on_progress: called before compiling and after every chunk of the attack's scan.
        It may raise KeyboardInterrupt, which ends the audit with what there is.

    Raises:
      InputError: something in the configuration or the data does not fit.
    """
    tell = on_progress or (lambda progress: None)
    data = load_images(config.data, size=config.size)
    if config.num_examples > len(data.x):
        raise InputError(
            f"num_examples is {config.num_examples}; the data holds {len(data.x)}"
        )
    target = models.build(
        str(config.target), _spec(config, data), **config.target_options
    )
    release = _release(config, target)
    runner, num_restarts = _runner(config, target, release)
    weights = load_lpips(config.lpips) if config.lpips is not None else None
    judge = Judge(target.spec, data, weights)
    key_params, key_attack = jax.random.split(jax.random.key(config.seed))
    params = jax.jit(target.init)(key_params)

    starts = range(0, config.num_examples, config.batch_size)
    batches: list[Judged] = []
    # A client's work is not what is timed or audited, so it is compiled apart.
    client = Client(jax.jit(release), config.local_training())

    def one_batch(index: int, stop: threading.Event) -> None:
        start = starts[index]
        chosen = np.arange(start, min(start + config.batch_size, config.num_examples))
        truth = jnp.asarray(data.x[chosen], jnp.float32) / 255.0
        batch = Batch(target.spec.normalise(truth), jnp.asarray(data.y[chosen]))
        observation = simulate(
            key_attack,
            target,
            params,
            batch,
            release=client,
            grant=config.granted(),
            sent="gradient" if client.local is None else "weights",
        )
        key = jax.random.fold_in(key_attack, index)

        def here(phase: str, step: int = 0, score: float = float("nan")) -> None:
            steps = runner.num_steps
            tell(Progress(index, len(starts), step, steps, score, phase))

        here("compile")
        runner.compile(key, observation)
        here("run")
        if not stop.is_set():
            run = runner(key, observation, functools.partial(here, "run"), stop)
            batches.append(judge(chosen, run))

    # A first Ctrl-C ends the batch under attack early; a second one, or one that
    # `on_progress` raises, drops it. What was judged before is reported either way.
    with contextlib.suppress(KeyboardInterrupt), held_interrupt() as stop:
        for index in range(len(starts)):
            if not stop.is_set():
                one_batch(index, stop)
    if not batches:
        raise KeyboardInterrupt
    report = record(
        config, data, runner.num_steps, num_restarts, runner.compile_s, batches
    )
    pictures = [picture for b in batches for picture in b.pictures]
    curves = [b.curve(i) for i, b in enumerate(batches)]
    return AuditResult(report, pictures, curves)


def _spec(config: AuditConfig, data: ImageData) -> Spec:
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    if config.normalise:
        pixels = data.x / np.float32(255.0)
        mean = tuple(pixels.mean((0, 1, 2)).tolist())
        std = tuple(np.maximum(pixels.std((0, 1, 2)), 1e-3).tolist())
    # One class alone has a loss of zero and no gradient; pictures without labels are
    # given to a model of ten classes.
    num_classes = data.num_classes if data.num_classes > 1 else 10
    return Spec(tuple(data.x.shape[1:]), num_classes, mean, std)


def _release(config: AuditConfig, target: Target) -> Release:
    """What the client does: one gradient, or local training."""
    local, one = config.local_training(), gradient(target.loss)
    return one if local is None else FedAvg(one.loss, local)


def _runner(
    config: AuditConfig, target: Target, release: Release
) -> tuple[Runner, int]:
    """The attack with its restarts, and how many they are."""
    options = dict(config.attack_options)
    if config.local_lr is not None and attacks.has_loop(config.attack):
        options["release"] = release
    if config.iterations is not None:
        if not attacks.has_loop(config.attack):
            raise InputError(
                f"iterations is {config.iterations}; {config.attack} is a closed form "
                "and takes no steps"
            )
        options["num_steps"] = config.iterations
    attack = attacks.build(config.attack, target, **options)
    num = config.restarts if attack.num_steps else 1
    each = 4 * config.batch_size * int(np.prod(target.spec.shape))
    keep = int(min(num, max(1, _KEPT_BYTES // each)))
    # One start has nobody to lag behind.
    halving = Halving() if config.halving and num > 1 else None
    runner = Runner(
        attack,
        num_restarts=num,
        keep=keep,
        halving=halving,
        precision=config.precision,
    )
    return runner, num
