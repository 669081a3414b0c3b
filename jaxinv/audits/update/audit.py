"""The audit of an update that came from elsewhere.

Nobody has to know the truth. What the attack returns is then worth what the
attacker can tell of it (`jaxinv.audits.update.evidence`), beside the same attack on a
wrong update of the same size. Where a person holds the client's images, they judge
after the attack.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxinv import defenses
from jaxinv.audits.images.attacker import Attacker, the_attackers
from jaxinv.audits.images.judge import Curve, Judge, curve_of
from jaxinv.audits.progress import Progress
from jaxinv.audits.update.config import UpdateConfig
from jaxinv.audits.update.evidence import Evidence, permuted, weigh
from jaxinv.audits.update.record import Outcome, record
from jaxinv.data import ImageData, load_images
from jaxinv.errors import InputError
from jaxinv.exchange import ReceivedUpdate, read_update
from jaxinv.interrupt import held_interrupt
from jaxinv.observation import Observation


@dataclass
class UpdateResult:
    """Everything an audit of an update found out."""

    report: dict[str, Any]
    """What `report.json` holds; see `record`."""
    best: Outcome
    """Of the attacker that the report shows."""
    curves: list[Curve]
    """Score over the steps: of the update, and of the control."""


@dataclass(frozen=True)
class _Search:
    """The configuration as attackers read it, with what the client's file says."""

    config: UpdateConfig
    received: ReceivedUpdate

    def __getattr__(self, name: str) -> Any:
        return getattr(self.config, name)

    @property
    def batch_size(self) -> int:
        return self.received.client.examples

    def chain(self) -> tuple[defenses.Asked, ...]:
        return tuple(defenses.asked(words) for words in self.received.client.defenses)

    def granted(self) -> tuple[str, ...]:
        return self.received.observation.known.granted()


def run_audit(
    config: UpdateConfig, *, on_progress: Callable[[Progress], None] | None = None
) -> UpdateResult:
    """Runs the audit that the configuration describes.

    Args:
      config: what to audit.
      on_progress: called before compiling and after every part of the attack's steps.
        It may raise KeyboardInterrupt, which ends the audit with what there is.

    Raises:
      InputError: a file is not what it should be, or they do not fit each other.
    """
    tell = on_progress or (lambda progress: None)
    received = read_update(
        config.model,
        config.params,
        config.update,
        config.client,
        torch_model=config.torch_model,
        options=config.model_options,
        anyway=config.anyway,
    )
    data, judge = _judge(config, received)
    search: Any = _Search(config, received)
    attackers = the_attackers(
        search,
        received.target,
        received.release,
        {},
        local=received.local is not None,
    )
    wrong = _wrong(config, received)
    key = jax.random.key(config.seed)
    found: list[tuple[Attacker, list[Evidence]]] = [(one, []) for one in attackers]
    parts = [(one, seen) for one in found for seen in (received.observation, wrong)]
    release = jax.jit(received.release)

    def one_part(index: int, stop: threading.Event) -> None:
        (attacker, evidence), observation = parts[index]
        observation = _as_seen(attacker, observation)
        runner = attacker.runner

        def here(phase: str, step: int = 0, score: float = float("nan")) -> None:
            steps = runner.num_steps
            tell(Progress(index, len(parts), step, steps, score, phase, "update"))

        here("compile")
        runner.compile(key, observation)
        here("run")
        if not stop.is_set():
            run = runner(key, observation, functools.partial(here, "run"), stop)
            evidence.append(weigh(run, release, observation, received.target.spec))

    with contextlib.suppress(KeyboardInterrupt), held_interrupt() as stop:
        for index in range(len(parts)):
            if not stop.is_set():
                one_part(index, stop)
    outcomes = [
        Outcome(
            attacker,
            evidence[0],
            evidence[1] if len(evidence) > 1 else None,
            judge(np.arange(received.client.examples), evidence[0].run)
            if judge
            else None,
        )
        for attacker, evidence in found
        if evidence
    ]
    if not outcomes:
        raise KeyboardInterrupt
    report, best = record(config, received, outcomes, data)
    runs = [best.evidence.run, *([best.control.run] if best.control else [])]
    return UpdateResult(report, best, [curve_of(i, r) for i, r in enumerate(runs)])


def _judge(
    config: UpdateConfig, received: ReceivedUpdate
) -> tuple[ImageData | None, Judge | None]:
    if config.truth is None:
        return None, None
    data, shape = load_images(config.truth), received.target.spec.shape
    if tuple(data.x.shape[1:]) != tuple(shape):
        raise InputError(
            f"truth has images of shape {tuple(data.x.shape[1:])}; expected {shape} as "
            "in client.toml"
        )
    if len(data.x) < received.client.examples:
        raise InputError(
            f"truth holds {len(data.x)} images; expected the client's "
            f"{received.client.examples} first"
        )
    return data, Judge(received.target.spec, data)


def _wrong(config: UpdateConfig, received: ReceivedUpdate) -> Observation:
    """What the control is given: another client's update, or shuffled numbers."""
    if config.other is not None:
        return received.observe_other(config.other)
    return permuted(received.observation, config.seed)


def _as_seen(attacker: Attacker, observation: Observation) -> Observation:
    """What the attacker is given: who knows that numbers are left out sees which."""
    if "visible" not in attacker.granted:
        return observation
    visible = jax.tree.map(lambda leaf: leaf != 0, observation.update)
    known = observation.known.replace(visible=visible)  # pyright: ignore
    return observation.replace(known=known)  # pyright: ignore
