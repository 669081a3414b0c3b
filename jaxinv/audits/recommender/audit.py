"""The audit: train a federated recommender, attack users in it, judge what came back.

This is the only place where truth and attack meet, and they meet after the attack: a
user's ratings make the updates, the attack sees the observation alone and picks its
result by its own score, and then the metrics compare.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxinv.audits.progress import Progress
from jaxinv.audits.recommender.attacks import build_attack
from jaxinv.audits.recommender.clients import (
    held_by_clients,
    received,
    simulated,
)
from jaxinv.audits.recommender.config import AuditConfig
from jaxinv.audits.recommender.judge import Judge, Judged, UserRatings
from jaxinv.audits.recommender.record import record
from jaxinv.data.raters import raters, spread
from jaxinv.data.ratings import generated_ratings, load_ratings
from jaxinv.federation import Clients, observed_steps
from jaxinv.interrupt import held_interrupt
from jaxinv.models.recommenders import Recommender, build_recommender
from jaxinv.precision import numerics
from jaxinv.run import Runner

_NUM_RECORDS = 10
"""Times that the host looks at an attack under way."""


@dataclass
class AuditResult:
    """Everything an audit found out."""

    report: dict[str, Any]
    """What `report.json` holds; see `record`."""
    ratings: list[UserRatings]
    """One for each user, in the report's order."""


def run_audit(
    config: AuditConfig, *, on_progress: Callable[[Progress], None] | None = None
) -> AuditResult:
    """Runs the audit that the configuration describes.

    Args:
      config: what to audit.
      on_progress: called before compiling and now and then during an attack. It may
        raise KeyboardInterrupt, which ends the audit with the users that are done.

    Raises:
      InputError: something in the configuration or the data does not fit.
      OSError: the data cannot be read.
    """
    with numerics("float64" if config.float64 else None):
        return _run(config, on_progress or (lambda progress: None))


def _run(config: AuditConfig, tell: Callable[[Progress], None]) -> AuditResult:
    if config.data is None:
        ratings = generated_ratings()
    else:
        ratings = load_ratings(Path(config.data))
    held, scale = held_by_clients(ratings, implicit=config.implicit, seed=config.seed)
    model = build_recommender(
        config.model, scale, dim=config.dim, **config.model_options
    )
    runner, num_restarts = _runner(config, model)
    fitting = raters(ratings, config.least_ratings, config.most_ratings)
    users = spread(fitting, config.users)
    judge = Judge(model, float(np.quantile(held.rating, 0.5, method="lower")))
    key_training, key_attack, key_transit = jax.random.split(
        jax.random.key(config.seed), 3
    )
    done: list[Judged] = []

    def one_user(user: int, row: int, clients: Clients, stop: threading.Event) -> None:
        sent, truth = jax.tree.map(
            lambda x: x[row], (clients.observed, clients.profiles)
        )
        seen = received(config, jax.random.fold_in(key_transit, user), sent, truth.user)
        key = jax.random.fold_in(key_attack, user)
        part = len(done)

        def here(phase: str, step: int = 0, score: float = float("nan")) -> None:
            steps, unit = runner.num_steps, "user"
            tell(Progress(part, len(users), step, steps, score, phase, unit))

        here("compile")
        runner.compile(key, seen)
        here("run")
        if not stop.is_set():
            run = runner(key, seen, functools.partial(here, "run"), stop)
            done.append(judge(user, truth, run))

    # A first Ctrl-C ends the attack under way early; a second one, or one that
    # `on_progress` raises, drops it. What was judged before is reported either way.
    with contextlib.suppress(KeyboardInterrupt), held_interrupt() as stop:
        steps = observed_steps(config.start, config.interval, config.rounds)
        for group, clients in simulated(
            key_training,
            model,
            held,
            users,
            steps,
            config.learning_rate,
            together=config.together,
            every_item=config.all_items,
        ):
            for row, user in enumerate(group.users.tolist()):
                if not stop.is_set():
                    one_user(user, row, clients, stop)
    if not done:
        raise KeyboardInterrupt
    resolved = {"iterations": runner.num_steps, "restarts": num_restarts}
    entries = [judged.entry for judged in done]
    report = record(
        config,
        ratings,
        model.scale,
        len(fitting),
        resolved,
        runner.compile_s,
        entries,
    )
    return AuditResult(report, [judged.ratings for judged in done])


def _runner(config: AuditConfig, model: Recommender) -> tuple[Runner, int]:
    """The attack with its restarts, and how many they are."""
    assert config.attack is not None
    attack = build_attack(config.attack, model, **config.search())
    num = config.restarts if attack.num_steps else 1
    return Runner(attack, num_restarts=num, num_records=_NUM_RECORDS), num
