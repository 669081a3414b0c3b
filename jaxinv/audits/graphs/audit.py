"""The audit: graphs make gradients, GRAIN solves them, and then the metrics compare.

This is the only place where truth and attack meet, and they meet after the attack.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from jaxinv.attacks.grain import Recovered, gave_up, grain
from jaxinv.audits.graphs.clients import Clients, observed
from jaxinv.audits.graphs.config import AuditConfig
from jaxinv.audits.graphs.failure import described
from jaxinv.audits.graphs.judge import controlled, judged
from jaxinv.audits.graphs.record import record
from jaxinv.audits.graphs.sources import source_of
from jaxinv.audits.progress import Progress
from jaxinv.errors import InputError
from jaxinv.graph import Domain
from jaxinv.interrupt import held_interrupt
from jaxinv.models.graph_networks import build_graph_model
from jaxinv.models.graph_networks.base import GraphModel


@dataclass
class AuditResult:
    """Everything an audit found out."""

    report: dict[str, Any]
    """What `report.json` holds, the graphs with it; see `record`."""


def run_audit(
    config: AuditConfig, *, on_progress: Callable[[Progress], None] | None = None
) -> AuditResult:
    """Runs the audit that the configuration describes.

    Args:
      config: what to audit.
      on_progress: called before compiling and before every graph. It may raise
        KeyboardInterrupt, which ends the audit with the graphs that are done.

    Raises:
      InputError: something in the configuration or the data does not fit.
      OSError: the data cannot be read.
    """
    tell = on_progress or (lambda progress: None)
    source = source_of(config)
    model = build_graph_model(config.model, source.spec, **config.network_options())
    clients = Clients(
        model,
        noise=config.noise,
        float16=config.float16,
        local=config.local_training(),
    )
    key_params, key_other, key_transit = jax.random.split(
        jax.random.key(config.seed), 3
    )
    num, num_controls = len(source.graphs), min(config.controls, len(source.graphs))

    def here(part: int, parts: int, unit: str, phase: str = "run") -> None:
        tell(Progress(part, parts, 0, 0, float("nan"), phase, unit))

    def attacked(index: int, sender: Any) -> tuple[Recovered, float]:
        """The attack with the public parameters on an update by the sender's."""
        key = jax.random.fold_in(key_transit, index)
        update = clients(key, sender, source.graphs[index])
        return recovered(config, model, params, update, source.domain)

    done: list[dict[str, Any]] = []
    controls: list[dict[str, Any]] = []
    compile_s = 0.0
    # A first Ctrl-C ends the audit after the graph under attack; a second one, or one
    # that `on_progress` raises, drops that. What was judged before is reported.
    with contextlib.suppress(KeyboardInterrupt), held_interrupt() as stop:
        here(0, num, config.unit, "compile")
        start = time.perf_counter()
        init = jax.jit(model.init)
        params, other = init(key_params), init(key_other)
        jax.block_until_ready(clients(key_transit, params, source.graphs[0]))
        compile_s = time.perf_counter() - start
        for index in range(num):
            here(index, num, config.unit)
            if stop.is_set():
                break
            done.append(judged(source, index, *attacked(index, params)))
        # Gradients of another model: who finds a graph in them sees ghosts.
        for index in range(num_controls):
            here(index, num_controls, "control")
            if stop.is_set():
                break
            controls.append(controlled(source, index, *attacked(index, other)))
    if not done:
        raise KeyboardInterrupt
    return AuditResult(record(config, source, compile_s, done, controls))


def recovered(
    config: AuditConfig, model: GraphModel, params: Any, update: Any, domain: Domain
) -> tuple[Recovered, float]:
    """GRAIN on one update, and the seconds it took, compiling and all.

    Args:
      config: what the client does and where the attack gives up.
      model: what is trained.
      params: the public ones.
      update: as it arrived.
      domain: what the attacker is told of such graphs.

    Raises:
      InputError: what was asked for is wrong, for every graph. Whatever else goes
        wrong is this graph's bad luck, and its result says so.
    """
    start = time.perf_counter()
    try:
        seen = observed(model, params, update, config.local_training())
    except InputError as error:
        # Such as an update that overflowed.
        return gave_up("observation", str(error)), time.perf_counter() - start
    try:
        found = grain(model, seen, domain=domain, limits=config.limits())
    except InputError:
        raise
    except Exception as error:
        found = gave_up("error", described(error))
    return found, time.perf_counter() - start
