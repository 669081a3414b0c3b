"""What it costs to divide a sweep over virtual CPU devices, at equal work.

    python -m bench sweep_devices --json bench/results/sweep-devices-cpu.json

The same starts, as many at a time, on one device, on 2 and on 8, one after the other
and that several times; the seconds are those of running, without compiling. One virtual
device uses all cores as well, so that only what dividing costs is left.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.machine import machine
from jaxinv.sweeps.kinds import KINDS
from jaxinv.sweeps.store import Store

COLUMNS = KINDS["images"].columns

SPEC = """
checkpoint_s = 1000
pictures = false

[[cases]]
data = "digits"
target = {target}
num_examples = 16
set = {{ {options} }}

[[attacks]]
name = "inverting_gradients"
restarts = 8
iterations = {steps}
"""
MODELS = {
    "mlp": {"target": '"mlp"', "options": '"target.widths" = [[256]]', "steps": 3000},
    "lenet": {"target": '"lenet"', "options": "", "steps": 150},
}
CHUNK = 64


def main(argv: Sequence[str]) -> int:
    """Runs all and writes the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench sweep_devices")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=MODELS)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args(argv)
    rows = []
    for model in args.models:
        with tempfile.TemporaryDirectory() as place:
            rows += _measure(Path(place), model, args.repeats)
    facts = {
        "command": " ".join(["python -m bench sweep_devices", *argv]),
        "machine": machine(),
        "load_average": os.getloadavg()[0],
        "chunk": CHUNK,
    }
    text = json.dumps({"rows": rows, **facts}, indent=1) + "\n"
    args.json.write_text(text, encoding="utf-8")
    return 0


def _measure(place: Path, model: str, repeats: int) -> list[dict]:
    (place / "s.toml").write_text(SPEC.format(**MODELS[model]), encoding="utf-8")
    # (processes, devices of each)
    ways = [(1, 1), (1, 2), (1, 8), (2, 1)]
    seconds: dict[tuple[int, int], list[float]] = {way: [] for way in ways}
    first, rows = None, []
    for repeat in range(repeats + 1):
        for way in ways:
            out = place / f"{way[0]}-{way[1]}-{repeat}"
            _run(place / "s.toml", out, *way)
            report = json.loads((out / "report.json").read_text())
            # The first round fills the cache of compiled programs.
            if repeat:
                seconds[way].append(report["run_s"])
            print(model, way, round(report["run_s"], 2), flush=True)
    for way in ways:
        found = Store(place / f"{way[0]}-{way[1]}-1" / "rows", COLUMNS).read()
        found = found.sort_by([("job", "ascending")])
        first = found if first is None else first
        apart = np.abs(found["psnr"].to_numpy() - first["psnr"].to_numpy())
        # Each round's own ratio: the machine's other work comes and goes.
        ratios = [s / one for s, one in zip(seconds[way], seconds[1, 1], strict=True)]
        rows.append(
            {
                "model": model,
                "processes": way[0],
                "devices_each": way[1],
                "seconds": [round(s, 3) for s in seconds[way]],
                "over_one_device": round(statistics.median(ratios) - 1, 3),
                "largest_psnr_difference_db": float(apart.max()),
            }
        )
        print(rows[-1], flush=True)
    return rows


def _run(spec: Path, out: Path, processes: int, devices: int) -> None:
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    words = [sys.executable, "-m", "jaxinv", "sweep", str(spec), "--out", str(out)]
    words += ["--quiet", "--chunk", str(CHUNK)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for number in range(processes):
        more = ["--coordinator", f"127.0.0.1:{port}", "--processes", str(processes)]
        more += ["--process", str(number)]
        command = words + (more if processes > 1 else [])
        quiet = subprocess.DEVNULL
        running.append(subprocess.Popen(command, env=environment, stderr=quiet))
    assert [one.wait() for one in running] == [0] * processes
