"""What it costs that Flower starts a process for each message to a client.

    python -m bench flower_start --json flower-start.json

Processes of the example's client (examples/flower_audit), one after the other: each
imports the app, answers a message without an audit, and then twice with one. Imports of
parts stand beside it. "compiled before" finds on disk what a process before compiled.
CPU seconds are of all threads; wall seconds are those of the machine as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.machine import machine

APP = Path(__file__).parents[1] / "examples" / "flower_audit"

IMPORTS = {
    "Flower's own": "import flwr.app, flwr.clientapp",
    "with JAX and Flax": "import flwr.app, flwr.clientapp, jax, flax.linen",
    "with jaxinv.flower": "import jaxinv.flower",
    "the example's client": "import digits_app.client_app",
}

TIMED = """
import json, time
laps, last = [], (time.perf_counter(), time.process_time())
def lap():
    global last
    now = time.perf_counter(), time.process_time()
    laps.append([n - l for n, l in zip(now, last)])
    last = time.perf_counter(), time.process_time()
"""

MESSAGES = """
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from digits_app import client_app
from digits_app.task import initial
from jaxinv.flower import arrays_of
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
def message():
    records = {"arrays": arrays_of(initial())}
    records["config"] = ConfigRecord({"server-round": 1})
    return Message(RecordDict(records), dst_node_id=1, message_type="train")
context = Context(
    run_id=1, node_id=1, node_config={"partition-id": 0}, state=RecordDict(),
    run_config={"out": "", "epsilon": 0.0}, series_id=1,
)
lap()
client_app.train(message(), context)
lap()
for _ in range(2):
    reply = client_app.app(message(), context)
    assert reply.content["metrics"]["audit/psnr"] > 60
    lap()
"""

LAPS = ("import", "answer", "audited", "audited again")
"""Again: the example makes its audit anew for each message, so it is traced anew."""


def main(argv: Sequence[str]) -> int:
    """Measures, prints the tables and writes the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench flower_start")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    imports: dict[str, list[Any]] = {name: [] for name in IMPORTS}
    processes: dict[str, list[Any]] = {"compiled before": [], "nothing compiled": []}
    with tempfile.TemporaryDirectory() as kept:
        _laps(MESSAGES, kept)
        for turn in range(args.repeats + 1):
            for name, code in IMPORTS.items():
                (lap,) = _laps(f"{code}\nlap()", kept)
                # The first turn reads the files from disk.
                if turn:
                    imports[name].append(lap)
            if turn:
                processes["compiled before"].append(_laps(MESSAGES, kept))
                with tempfile.TemporaryDirectory() as empty:
                    processes["nothing compiled"].append(_laps(MESSAGES, empty))
    _print(imports, processes)
    if args.json:
        record = {
            "imports": imports,
            "processes": processes,
            "laps": LAPS,
            "each": ["wall s", "cpu s"],
            "load_average": load,
            "command": "python -m bench flower_start",
            "machine": machine(),
        }
        args.json.write_text(json.dumps(record) + "\n", encoding="utf-8")
    return 0


def _laps(code: str, cache: str) -> list[list[float]]:
    """Runs the code in a process of its own."""
    here = str(APP.parents[1])
    environment = os.environ | {
        "FLWR_TELEMETRY_ENABLED": "0",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join((str(APP), here)),
    }
    done = subprocess.run(
        [sys.executable, "-c", f"{TIMED}\n{code}\nprint(json.dumps(laps))"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _print(imports: dict[str, list[Any]], processes: dict[str, list[Any]]) -> None:
    console = Console(width=100)
    table = Table(title="imports, medians of seconds")
    for title in ("what", "wall", "cpu"):
        table.add_column(title)
    for name, laps in imports.items():
        table.add_row(
            name, *(f"{statistics.median(v):.2f}" for v in zip(*laps, strict=True))
        )
    console.print(table)
    table = Table(title="a client's process, medians of seconds, wall / cpu")
    for title in ("programs", *LAPS):
        table.add_column(title)
    for name, runs in processes.items():
        cells = [
            " / ".join(f"{statistics.median(v):.2f}" for v in zip(*lap, strict=True))
            for lap in zip(*runs, strict=True)
        ]
        table.add_row(name, *cells)
    console.print(table)
