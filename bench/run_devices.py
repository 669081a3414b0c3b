"""What it costs to divide one audit's starts over virtual CPU devices, at equal work.

    python -m bench run_devices --json bench/results/run-devices-cpu.json

The same starts on one device, on 2 and on 8, one after the other and that several
times; the seconds are those of running, without compiling. One virtual device uses all
cores as well, so that only what dividing costs is left. A single start, which is never
divided, is timed beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.machine import machine
from jaxinv.audits.images import AuditConfig, run_audit

DEVICES = (1, 2, 8)
STEPS = {32: 60, 1: 400}
"""Of every start, by how many starts there are."""


def main(argv: Sequence[str]) -> int:
    """Runs all and writes the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench run_devices")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        print(json.dumps(_audit(args.one)))
        return 0
    facts = {
        "command": " ".join(["python -m bench run_devices", *argv]),
        "machine": machine(),
        "load_average": os.getloadavg()[0],
    }
    rows = [row for restarts in STEPS for row in _measure(restarts, args.repeats)]
    text = json.dumps({"rows": rows, **facts}, indent=1) + "\n"
    args.json.write_text(text, encoding="utf-8")
    return 0


def _measure(restarts: int, repeats: int) -> list[dict[str, Any]]:
    found: dict[int, list[dict[str, Any]]] = {devices: [] for devices in DEVICES}
    for _ in range(repeats):
        for devices in DEVICES:
            found[devices].append(_run(restarts, devices))
            print(restarts, devices, found[devices][-1]["run_s"], flush=True)
    ones = [one["run_s"] for one in found[1]]
    rows = []
    for devices, runs in found.items():
        seconds = [one["run_s"] for one in runs]
        # Each round's own ratio: the machine's other work comes and goes.
        ratios = [s / one for s, one in zip(seconds, ones, strict=True)]
        pairs = zip(runs[0]["psnr"], found[1][0]["psnr"], strict=True)
        rows.append(
            {
                "restarts": restarts,
                "steps": STEPS[restarts],
                "devices": devices,
                "seconds": [round(s, 3) for s in seconds],
                "compile_s": [round(one["compile_s"], 3) for one in runs],
                "over_one_device": round(statistics.median(ratios) - 1, 3),
                "largest_psnr_difference_db": max(abs(a - b) for a, b in pairs),
            }
        )
        print(rows[-1], flush=True)
    return rows


def _run(restarts: int, devices: int) -> dict[str, Any]:
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "bench", "run_devices", "--one", str(restarts)]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    return json.loads(done.stdout)


def _audit(restarts: int) -> dict[str, Any]:
    """In a process that has the devices."""
    config = AuditConfig(
        attack="inverting_gradients",
        target="lenet",
        data="digits",
        restarts=restarts,
        iterations=STEPS[restarts],
        num_examples=2,
    )
    report = run_audit(config).report
    return {
        "run_s": report["run_s"],
        "compile_s": report["compile_s"],
        "psnr": [example["psnr"] for example in report["examples"]],
    }
