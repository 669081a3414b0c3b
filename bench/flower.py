"""What an audit adds to a Flower federation, beside what the audit itself costs.

    FLWR_TELEMETRY_ENABLED=0 python -m bench flower --json flower.json

Two clients, three rounds, real messages in one process (`bench.in_process_grid`). Three
things take turns: the federation as it is; with `audit_mod` on the clients,
`AuditedStrategy` on the server and both writing their reports; and the same attacks and
judgements on the same exchanges without Flower. "cold" makes both audits anew each
time, so that compiling counts, as in a run of one's own; "warm" has compiled before.

The overhead is what the audited federation takes beyond the plain one, over the audits'
own seconds in that very run (`Entry.seconds`), minus one: the two sides meet the same
load, for a machine is seldom idle. The audits alone stand beside it as a check.

A difference of two runs is mostly load where audits take milliseconds. "own" is counted
inside one run: the time in mod and wrapper, without what they wrap and without the
audits. It leaves out what Flower does with two more metrics, and the check of the
folder when mod and wrapper are made.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.machine import machine
from jaxinv import attacks, models
from jaxinv.fedavg import fedavg
from jaxinv.target import Batch, Spec

NODES, ROUNDS = (1, 2), 3
ATTACKS = {
    "closed form": lambda t, release: attacks.linear_layer(t),
    "search, 8 x 300 steps": lambda t, release: attacks.inverting_gradients(
        t, release=release, num_steps=300
    ),
}
CASES = (
    ("closed form", "warm", 40),
    ("closed form", "cold", 4),
    ("search, 8 x 300 steps", "warm", 5),
)
"""Attack, whether its programs are compiled before, and repetitions."""


class Problem(NamedTuple):
    """The federation and how to attack it."""

    target: Any
    release: Any
    train: Callable[..., Any]
    params: Any
    data: dict[int, Batch]

    def audit(self, name: str) -> Any:
        from jaxinv.flower import Audit, in_order

        return Audit(
            ATTACKS[name](self.target, self.release),
            self.target.spec,
            to_params=in_order(self.params),
            local_training=self.release.local,
            num_restarts=8 if name.startswith("search") else 1,
        )

    def truth(self, message: Any, context: Any) -> Batch:
        return self.data[context.node_id]


class Cost(NamedTuple):
    """Seconds of one federation."""

    audits: float
    """By their own account."""
    own: float
    """In mod and wrapper beside them."""


class Clock:
    """Time that is spent in one thing and not in what it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, sign: int) -> Callable[..., Any]:
        """A mod that counts what lies behind it, by its sign."""

        def mod(message: Any, context: Any, call_next: Callable) -> Any:
            return self._count(sign, call_next, message, context)

        return mod

    def watch(self, strategy: Any, sign: int) -> None:
        """Counts a strategy's work on training messages."""
        configure, aggregate = strategy.configure_train, strategy.aggregate_train

        def configured(*args: Any) -> list[Any]:
            return self._count(sign, lambda: list(configure(*args)))

        def aggregated(server_round: int, replies: Any) -> Any:
            # Clients work while their replies are walked through: not counted here.
            replies = list(replies)
            return self._count(sign, aggregate, server_round, replies)

        strategy.configure_train, strategy.aggregate_train = configured, aggregated

    def _count(self, sign: int, function: Callable, *args: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args)
        finally:
            self.seconds += sign * (time.perf_counter() - began)


def main(argv: Sequence[str]) -> int:
    """Measures, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench flower")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    try:
        import flwr
    except ImportError:
        parser.error("this needs Flower: pip install 'jaxinv[flower]'")
    jax.config.update("jax_platforms", "cpu")
    logging.getLogger("flwr").setLevel(logging.ERROR)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    problem = _problem()
    with tempfile.TemporaryDirectory() as out:
        rows = [_measured(problem, *case, out) for case in CASES]
    _print(rows)
    if args.json:
        facts = {"clients": len(NODES), "rounds": ROUNDS, "load_average": load}
        facts |= {"command": "python -m bench flower"}
        facts |= {"machine": f"{machine()}, flwr {flwr.__version__}"}
        lines = ",\n ".join(json.dumps(r | facts) for r in rows)
        args.json.write_text(f"[\n {lines}\n]\n", encoding="utf-8")
    return 0


def _problem() -> Problem:
    spec = Spec((8, 8, 1), 10)
    target = models.build("mlp", spec, widths=(256,))
    release = fedavg(target.loss, 0.1, local_steps=1)
    rng = np.random.default_rng(0)
    data = {
        node: Batch(
            jnp.asarray(rng.random((4, 8, 8, 1)), jnp.float32),
            jnp.asarray(rng.integers(0, 10, 4)),
        )
        for node in NODES
    }
    params = jax.jit(target.init)(jax.random.key(0))
    return Problem(target, release, jax.jit(release), params, data)


def _measured(
    problem: Problem, name: str, start: str, repeats: int, out: str
) -> dict[str, Any]:
    """The three in turn; the first turn is left out."""
    exchanges: list[Any] = []
    _federated(problem, exchanges=exchanges)

    def audits() -> tuple[Any, Any]:
        return problem.audit(name), problem.audit(name)

    kept = audits(), audits()
    took: dict[str, list[float]] = {"plain": [], "audited": [], "alone": []}
    inside: list[float] = []
    own: list[float] = []
    for turn in range(repeats + 1):
        on, off = kept if start == "warm" else (audits(), audits())
        cost: list[Cost] = []
        place = Path(out) / f"{name} {start} {turn}"
        turns = {
            "plain": lambda: _federated(problem),
            "audited": lambda: cost.append(_federated(problem, on, place)),
            "alone": lambda: _attacked(problem, off, exchanges),
        }
        for what, run in turns.items():
            began = time.perf_counter()
            run()
            if turn:
                took[what].append(time.perf_counter() - began)
        if turn:
            inside.append(cost[0].audits)
            own.append(cost[0].own)
    plain = statistics.median(took["plain"])
    beyond = [a - plain - i for a, i in zip(took["audited"], inside, strict=True)]
    return {
        "attack": name,
        "start": start,
        "repeats": repeats,
        **{f"{what}_s": values for what, values in took.items()},
        "inside_s": inside,
        "own_s": own,
        "own_ms_per_audit": 1e3 * statistics.median(own) / (2 * len(exchanges)),
        "own_overhead": statistics.median(
            o / i for o, i in zip(own, inside, strict=True)
        ),
        "beyond_ms_per_audit": 1e3 * statistics.median(beyond) / (2 * len(exchanges)),
        "overhead": statistics.median(
            b / i for b, i in zip(beyond, inside, strict=True)
        ),
    }


def _federated(
    problem: Problem,
    audits: Any = None,
    out: Path | None = None,
    exchanges: list | None = None,
) -> Cost:
    """Runs it; what its audits cost by their own account, and what beside them."""
    from flwr.serverapp.strategy import FedAvg

    from bench.in_process_grid import InProcessGrid, client_app
    from jaxinv.flower import AuditedStrategy, arrays_of, audit_mod

    def recording(message: Any, context: Any, call_next: Callable) -> Any:
        reply = call_next(message, context)
        sent = dict(message.content.array_records["arrays"])
        assert exchanges is not None
        exchanges.append((context.node_id, sent, reply.content))
        return reply

    random.seed(0)
    entries: list[Any] = []
    clock = Clock()
    strategy: Any = FedAvg(fraction_evaluate=0.0)
    mods = [] if exchanges is None else [recording]
    if audits is not None:
        tell = entries.append
        mod = audit_mod(audits[0], problem.truth, out=out, on_entry=tell)
        mods = [clock.around(1), mod, clock.around(-1)]
        clock.watch(strategy, -1)
        strategy = AuditedStrategy(strategy, audits[1], out=out)
        clock.watch(strategy, 1)
    app = client_app(problem.train, problem.params, problem.data, mods=mods)
    start = arrays_of(problem.params)
    strategy.start(InProcessGrid(app, NODES), start, num_rounds=ROUNDS)
    if audits is not None:
        entries += strategy.entries
    seconds = sum(entry.seconds for entry in entries)
    return Cost(seconds, clock.seconds - seconds)


def _attacked(problem: Problem, audits: Any, exchanges: list) -> None:
    """What mod and strategy do with every exchange, without Flower."""
    from jaxinv.flower.judge import judge

    for place, (node, sent, content) in enumerate(exchanges):
        draw = 1 + place // len(NODES), node
        found = audits[0](sent, content, draw=draw).found
        judge(problem.target.spec, problem.data[node], found.batch)
        audits[1](sent, content, draw=draw)


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table(title="2 clients x 3 rounds, medians of seconds")
    titles = ("plain", "audited", "alone", "inside")
    last = ("overhead", "ms beyond an audit", "own", "own ms of an audit")
    for title in ("attack", "start", *titles, *last):
        table.add_column(title)
    for row in rows:
        table.add_row(
            row["attack"],
            row["start"],
            *(f"{statistics.median(row[f'{what}_s']):.3f}" for what in titles),
            f"{row['overhead']:+.1%}",
            f"{row['beyond_ms_per_audit']:.2f}",
            f"{row['own_overhead']:+.1%}",
            f"{row['own_ms_per_audit']:.3f}",
        )
    Console(width=120).print(table)
