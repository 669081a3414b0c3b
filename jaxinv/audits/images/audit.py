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

from jaxinv import defenses, models
from jaxinv.audits.images.attacker import the_attackers
from jaxinv.audits.images.config import AuditConfig
from jaxinv.audits.images.judge import Curve, ExamplePictures, Judge
from jaxinv.audits.images.record import record
from jaxinv.audits.progress import Progress
from jaxinv.client import Client, simulate
from jaxinv.data import ImageData, load_images
from jaxinv.errors import InputError
from jaxinv.fedavg import FedAvg
from jaxinv.interrupt import held_interrupt
from jaxinv.metrics import load_lpips
from jaxinv.release import Release, gradient
from jaxinv.run import Runner
from jaxinv.target import Batch, Spec, Target


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
    config: AuditConfig,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    compiled: dict[str, Runner] | None = None,
) -> AuditResult:
    """Runs the audit that the configuration describes.

    Args:
      config: what to audit.
      on_progress: called before compiling and after every chunk of the attack's scan.
        It may raise KeyboardInterrupt, which ends the audit with what there is.
      compiled: what audits share that differ in their defence alone: the attack of who
        does not know it. The first one fills it.

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
        str(config.target), spec_of(config, data), **config.target_options
    )
    # A client's work is not what is timed or audited, so it is compiled apart.
    release, client = client_of(config, target)
    compiled = {} if compiled is None else compiled
    attackers = the_attackers(
        config, target, release, compiled, local=client.local is not None
    )
    weights = load_lpips(config.lpips) if config.lpips is not None else None
    judge = Judge(target.spec, data, weights)
    key_params, key_attack = jax.random.split(jax.random.key(config.seed))
    params = jax.jit(target.init)(key_params)

    starts = range(0, config.num_examples, config.batch_size)
    parts = [(start, attacker) for start in starts for attacker in attackers]

    def one_part(index: int, stop: threading.Event) -> None:
        start, attacker = parts[index]
        runner = attacker.runner
        chosen = np.arange(start, min(start + config.batch_size, config.num_examples))
        truth = jnp.asarray(data.x[chosen], jnp.float32) / 255.0
        batch = Batch(target.spec.normalise(truth), jnp.asarray(data.y[chosen]))
        observation = simulate(
            key_attack,
            target,
            params,
            batch,
            release=client,
            grant=attacker.granted,
            sent="gradient" if client.local is None else "weights",
        )
        key = jax.random.fold_in(key_attack, start // config.batch_size)

        def here(phase: str, step: int = 0, score: float = float("nan")) -> None:
            steps = runner.num_steps
            tell(Progress(index, len(parts), step, steps, score, phase))

        here("compile")
        runner.compile(key, observation)
        here("run")
        if not stop.is_set():
            run = runner(key, observation, functools.partial(here, "run"), stop)
            attacker.judged.append(judge(chosen, run))

    # A first Ctrl-C ends the batch under attack early; a second one, or one that
    # `on_progress` raises, drops it. What was judged before is reported either way.
    with contextlib.suppress(KeyboardInterrupt), held_interrupt() as stop:
        for index in range(len(parts)):
            if not stop.is_set():
                one_part(index, stop)
    attackers = [attacker for attacker in attackers if attacker.judged]
    if not attackers:
        raise KeyboardInterrupt
    report, strongest = record(config, data, attackers)
    pictures = [picture for b in strongest.judged for picture in b.pictures]
    curves = [b.curve(i) for i, b in enumerate(strongest.judged)]
    return AuditResult(report, pictures, curves)


def spec_of(config: AuditConfig, data: ImageData) -> Spec:
    """What an example looks like to the model of an audit."""
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


def client_of(config: AuditConfig, target: Target) -> tuple[Release, Client]:
    """What the client does before its defences, and the client with them, compiled."""
    local, release = config.local_training(), gradient(target.loss)
    if local is not None:
        release = FedAvg(release.loss, local)
    defended = defenses.build(config.chain(), release, target)
    masked = getattr(defended, "masked", None)
    return release, Client(jax.jit(defended), local, masked and jax.jit(masked))
