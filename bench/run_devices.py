"""What it costs to divide one run's starts over virtual CPU devices, at equal work.

    python -m bench run_devices --json bench/results/run-devices-cpu.json

The same attack in three processes with 1, 2 and 8 devices, one after the other and that
several times; the seconds are those of running, without compiling. One virtual device
uses all cores as well, so that only what dividing costs is left; where other work runs
on them, the processor's seconds say it better than the clock's. A single start, which
is never divided, is timed beside them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from bench.machine import machine
from jaxinv import attacks, models
from jaxinv.client import simulate
from jaxinv.data import load_images
from jaxinv.run import Runner
from jaxinv.target import Batch, Spec

DEVICES = (1, 2, 8)
CASES = ((32, 400), (32, 1600), (1, 5000))
"""How many starts, and the steps of each."""


def main(argv: Sequence[str]) -> int:
    """Runs all and writes the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench run_devices")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--one", type=int, choices=range(len(CASES)), help=argparse.SUPPRESS
    )
    args = parser.parse_args(argv)
    if args.one is not None:
        _attacks(*CASES[args.one])
        return 0
    facts = {
        "command": " ".join(["python -m bench run_devices", *argv]),
        "machine": machine(),
        "load_average": os.getloadavg()[0],
    }
    rows = [row for case in range(len(CASES)) for row in _measure(case, args.repeats)]
    text = json.dumps({"rows": rows, **facts}, indent=1) + "\n"
    args.json.write_text(text, encoding="utf-8")
    return 0


def _measure(case: int, repeats: int) -> list[dict[str, Any]]:
    found: dict[int, list[dict[str, Any]]] = {devices: [] for devices in DEVICES}
    with contextlib.ExitStack() as stack:
        processes = {n: stack.enter_context(_process(case, n)) for n in DEVICES}
        for repeat in range(repeats + 1):
            for devices, attack in processes.items():
                run = attack()
                print(*CASES[case], devices, run["cpu_seconds"], flush=True)
                # The first one compiles.
                if repeat:
                    found[devices].append(run)
    rows = []
    for devices, runs in found.items():
        row: dict[str, Any] = {
            "restarts": CASES[case][0],
            "steps": CASES[case][1],
            "devices": devices,
        }
        for name in ("seconds", "cpu_seconds"):
            pairs = [
                (run[name], one[name]) for run, one in zip(runs, found[1], strict=True)
            ]
            row[name] = [round(mine, 3) for mine, _ in pairs]
            # Each round's own ratio: the machine's other work comes and goes.
            ratio = statistics.median(mine / one for mine, one in pairs)
            row[f"{name}_over_one_device"] = round(ratio - 1, 3)
        pairs = zip(runs[0]["scores"], found[1][0]["scores"], strict=True)
        row["largest_relative_difference"] = max(abs(a / b - 1) for a, b in pairs)
        rows.append(row)
        print(row, flush=True)
    return rows


@contextlib.contextmanager
def _process(case: int, devices: int) -> Iterator[Callable[[], dict[str, Any]]]:
    """A process with so many devices, which attacks when it is asked to."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "bench", "run_devices", "--one", str(case)]
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        asked, told = process.stdin, process.stdout
        assert asked is not None and told is not None

        def attack() -> dict[str, Any]:
            print("go", file=asked, flush=True)
            return json.loads(told.readline())

        yield attack


def _attacks(restarts: int, steps: int) -> None:
    """One for each line that comes in, on what the client of an audit sends."""
    data = load_images("digits")
    target = models.build("lenet", Spec(data.x.shape[1:], data.num_classes))
    params = target.init(jax.random.key(0))
    pixels = jnp.asarray(data.x[:1], jnp.float32) / 255
    batch = Batch(target.spec.normalise(pixels), jnp.asarray(data.y[:1]))
    key = jax.random.key(1)
    seen = simulate(key, target, params, batch, grant=("labels",))
    attack = attacks.build("inverting_gradients", target, num_steps=steps)
    runner = Runner(attack, num_restarts=restarts)
    for _ in sys.stdin:
        before = time.process_time()
        run = runner(key, seen)
        told = {
            "seconds": run.seconds,
            "cpu_seconds": time.process_time() - before,
            "scores": run.found.stats["scores"].tolist(),
        }
        print(json.dumps(told), flush=True)
