"""A sweep that is killed again and again, against one that is left alone.

    python -m bench sweep_kills --kills 20 --json bench/results/sweep-kills-cpu.json

200 jobs. Each kill (SIGKILL) comes at a random moment after the process has begun to
run; the next process goes on. At the end every row is compared, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.machine import machine
from jaxinv.sweeps.kinds import KINDS
from jaxinv.sweeps.store import Store

COLUMNS = KINDS["images"].columns

SPEC = """
seeds = [0, 1, 2, 3, 4]
defenses = ["none", "gaussian_noise:std=0.01"]
checkpoint_s = {every}

[[cases]]
name = "digits"
data = "digits"
target = "mlp"
num_examples = 10
set = {{ "target.widths" = [[64]] }}

[[attacks]]
name = "inverting_gradients"
restarts = 8
iterations = 5000
set = {{ "attack.tv" = [0.001, 0.01] }}
"""
EVERY = 0.5


def main(argv: Sequence[str]) -> int:
    """Runs both and writes the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench sweep_kills")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        found = _measure(Path(place), args.kills, random.Random(args.seed))
    found |= {
        "command": " ".join(["python -m bench sweep_kills", *argv]),
        "machine": machine(),
    }
    args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({k: v for k, v in found.items() if k != "kills"}))
    return 0 if found["equal"] else 1


def _measure(place: Path, kills: int, rng: random.Random) -> dict:
    spec = place / "s.toml"
    spec.write_text(SPEC.format(every=EVERY), encoding="utf-8")
    _start(spec, place / "warm").wait()
    began = time.monotonic()
    assert _start(spec, place / "whole").wait() == 0
    whole_s = time.monotonic() - began
    run_s = json.loads((place / "whole" / "report.json").read_text())["run_s"]
    killed = place / "killed"
    moments = []
    while len(moments) < kills:
        process, began = _start(spec, killed), time.monotonic()
        before = _counted(killed)
        # From where it is about to run to where it might have done its share.
        starting = whole_s - run_s
        wait = rng.uniform(0.6 * starting, starting + 0.4 * run_s / kills)
        try:
            process.wait(wait)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        moments.append(
            {
                "after_s": round(time.monotonic() - began, 2),
                "checkpoints_before": before,
                "checkpoints": _counted(killed),
                "rows": Store(killed / "rows", COLUMNS).read(["job"]).num_rows,
            }
        )
        print(moments[-1], flush=True)
    assert _start(spec, killed).wait() == 0
    one, other = (
        Store(place / n / "rows", COLUMNS).read() for n in ("whole", "killed")
    )
    jobs = other["job"].to_pylist()
    return {
        "jobs": len(set(jobs)),
        "rows": other.num_rows,
        "doubled": len(jobs) - len(set(jobs)),
        "equal": one.equals(other),
        "checkpoint_s": EVERY,
        "uninterrupted_s": round(whole_s, 1),
        "running_s": round(run_s, 1),
        "kills": moments,
        "num_kills": len(moments),
    }


def _start(spec: Path, out: Path) -> subprocess.Popen:
    words = ["sweep", str(spec), "--out", str(out), "--quiet"]
    return subprocess.Popen([sys.executable, "-m", "jaxinv", *words])


def _counted(out: Path) -> int:
    """The number of the last checkpoint."""
    folder = out / "checkpoints"
    names = [p.name for p in folder.iterdir()] if folder.exists() else []
    return max((int(name) for name in names if name.isdigit()), default=0)
