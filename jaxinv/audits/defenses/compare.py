"""The comparison: every defence attacked, and trained under, on the same data.

A row of the result is a defence: what the strongest of all attacks and attackers leaves
of its examples' privacy, and the accuracy of a model that was trained under it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv import defenses, models
from jaxinv.audits.defenses.config import CompareConfig
from jaxinv.audits.defenses.record import Row, record
from jaxinv.audits.defenses.utility import utility
from jaxinv.audits.images.audit import run_audit, spec_of
from jaxinv.audits.progress import Progress
from jaxinv.data import ImageData, load_images
from jaxinv.errors import InputError
from jaxinv.release import gradient
from jaxinv.run import Runner
from jaxinv.target import Batch, Target

HELD_OUT = 0.2
"""Share of the data that nobody trains on."""


@dataclass
class Comparison:
    """Everything a comparison found out."""

    report: dict[str, Any]
    """What `report.json` holds; see `record`."""
    rows: list[Row]
    """In the order asked, the one without a defence first."""


def compare(
    config: CompareConfig,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    on_row: Callable[[Comparison], Any] | None = None,
) -> Comparison:
    """Runs the comparison that the configuration describes.

    Args:
      config: what to compare.
      on_progress: told after every row and attack, and during the attacks; it may raise
        KeyboardInterrupt, which ends the comparison with the rows there are.
      on_row: told what there is after every row, to be kept.

    Raises:
      InputError: something in the configuration or the data does not fit.
      KeyboardInterrupt: it was stopped before the first row was done.
    """
    tell = on_progress or (lambda progress: None)
    data = load_images(config.data, size=config.size)
    first = config.audit(config.rows()[0], config.attacks[0])
    options = {**config.target_options, **config.trained_options}
    target = models.build(config.target, spec_of(first, data), **options)
    train, test = _parts(config, target, data)
    share = config.training.share(len(train.inputs))
    # Every defence is built before the first is run: no wrong word costs an hour.
    releases = {
        row: defenses.build_summed(
            config.audit(row, config.attacks[0], share).chain(),
            gradient(target.loss),
            target,
        )
        for row in config.rows()
    }
    rows: list[Row] = []
    compiled: dict[str, dict[str, Runner]] = {attack: {} for attack in config.attacks}
    try:
        for index, (name, release) in enumerate(releases.items()):

            def here(number: int, now: Progress, index: int = index) -> None:
                done, steps = now.steps()
                tell(
                    Progress(
                        index,
                        len(releases),
                        number * steps + done,
                        len(config.attacks) * steps,
                        now.score,
                        now.phase,
                        "defence",
                    )
                )

            began = time.perf_counter()
            audits = [
                run_audit(
                    config.audit(name, attack, share),
                    on_progress=functools.partial(here, number),
                    compiled=compiled[attack],
                )
                for number, attack in enumerate(config.attacks)
            ]
            if any(audit.report["interrupted"] for audit in audits):
                break
            attacked = time.perf_counter()
            here(len(config.attacks), Progress(0, 1, 0, 1, float("nan"), "train"))
            found = utility(
                jax.random.key(config.seed),
                target,
                release,
                train,
                test,
                config.training,
                plain=gradient(target.loss),
            )
            found = jax.block_until_ready(found)
            spent = attacked - began, time.perf_counter() - attacked
            rows.append(Row(name, audits, found, spent))
            if on_row is not None:
                on_row(Comparison(record(config, data, rows, len(test.inputs)), rows))
            # Every row compiles programs of its own, and a process can map only so
            # many: beyond that LLVM finds no memory, whatever is free.
            jax.clear_caches()
    except KeyboardInterrupt:
        if not rows:
            raise
    if not rows:
        raise KeyboardInterrupt
    return Comparison(record(config, data, rows, len(test.inputs)), rows)


def _parts(
    config: CompareConfig, target: Target, data: ImageData
) -> tuple[Batch, Batch]:
    """What is trained on, the attacked examples first, and what is held out."""
    rest = np.arange(config.num_examples, len(data.x))
    num = round(HELD_OUT * len(data.x))
    if num > len(rest) or not num:
        raise InputError(
            f"data holds {len(data.x)} images; expected a fifth of them beside the "
            f"{config.num_examples} that are attacked"
        )
    rest = np.random.default_rng(config.seed).permutation(rest)
    trained = np.concatenate([np.arange(config.num_examples), rest[num:]])

    def batch(chosen: np.ndarray) -> Batch:
        pixels = jnp.asarray(data.x[chosen], jnp.float32) / 255.0
        return Batch(target.spec.normalise(pixels), jnp.asarray(data.y[chosen]))

    return batch(trained), batch(rest[:num])
