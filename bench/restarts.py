"""How many restart-iterations a second the engine does, beside PyTorch's.

    python -m bench restarts --target convnet --restarts 1 8 64 --json restarts.json

Inverting Gradients (signed Adam, total variation, step decay, box, labels known) on the
same weights, observed gradients and kind of start on both sides. jaxinv runs all starts
in one call; "torch eager" runs them one after another, so that few of them give its
rate (at least two, and `--peer-seconds` of work); "torch batched" runs them all under
`torch.func.vmap`. Repetitions of the contenders alternate, so that noise meets them
all; rates are medians, the ratio is that of the medians. jaxinv's seconds include
drawing the starts and the look at the last point, PyTorch's the steps alone. Before
anything is timed all must agree on the match at one start, in float32 without TF32
(in float64 where that is measured).

Measure on a machine that does nothing else (`load_average` is that at the beginning):
PyTorch's threads wait for one another at every operation, so that on busy cores it
loses far more than jaxinv, tens of times on small models, and the ratio means nothing.

`--target own` is the ConvNet as a user writes it, in plain flax (`bench.own_model`),
with the zoo's weights: the engine rewrites it, so its rate should be the same.

Every combination of `--restarts`, `--batch`, `--width`, `--size` and `--precision`
gives a row for each contender. What `flops_per_iteration`, `ceiling_gflops` and
`peak_mb` mean stands in `bench.ceiling`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import itertools
import json
import math
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax

from bench.ceiling import PASSES, device_peak, forward_flops, matmul_gflops, peak_of
from bench.contenders import contenders_of
from bench.machine import machine
from bench.plot_restarts import plot, print_rows
from bench.problem import PRECISIONS, Case, make_problem, precision
from jaxinv.errors import InputError

WIDTHS = {"lenet": None, "convnet": 64, "own": 64, "resnet18": 64, "mlp": 256}
"""The widths taken where none is asked for; None where the model has no such option."""
ITERATIONS = {
    "cpu": {"lenet": 200, "convnet": 10, "own": 10, "resnet18": 10, "mlp": 200},
    "gpu": {"lenet": 1000, "convnet": 100, "own": 100, "resnet18": 100, "mlp": 1000},
}


def main(argv: Sequence[str]) -> int:
    """Measures the cases asked for, prints the table, writes the JSON and the plot."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install 'jaxinv[plot]'")
    for option, path in (("--json", args.json), ("--plot", args.plot)):
        if path and not path.parent.is_dir():
            parser.error(f"{option} {path}: there is no folder {path.parent}")
    if args.source:
        try:
            rows = [
                row for p in args.source for row in json.loads(p.read_text("utf-8"))
            ]
        except (OSError, ValueError) as error:
            parser.error(f"--from cannot be read: {error}")
    else:
        cases = _cases(parser, args)
        rows = _measure_all(cases, args, " ".join(["python -m bench restarts", *argv]))
    print_rows(rows)
    if args.plot and rows:
        plot(rows, args.plot)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench restarts", description="restart-iterations per second"
    )
    add, count = parser.add_argument, _positive(int)
    add("--device", choices=("cpu", "gpu"), default="cpu")
    add("--peer", choices=("torch", "none"), default="torch")
    add("--batched-peer", action="store_true", help="always run on a GPU")
    add("--target", choices=sorted(WIDTHS))
    add("--restarts", type=count, nargs="+", default=[1])
    add("--batch", type=count, nargs="+", default=[1], help="examples in the batch")
    add("--width", type=count, nargs="+", help="of the model; mlp: both layers'")
    add("--size", type=count, nargs="+", default=[32], help="side of the images")
    add("--precision", choices=PRECISIONS, nargs="+", default=["default"])
    add("--iterations", type=count, help="default: some seconds' worth on one start")
    add("--repeats", type=count, default=3)
    add("--peer-seconds", type=_positive(float), default=2.0, help="of one repetition")
    add("--peer-threads", type=count, help="of PyTorch on a CPU; default: its own")
    add("--seed", type=int, default=0)
    add("--json", type=Path, help="write the rows to this file")
    add("--plot", type=Path, help="write a PNG to this file")
    add("--from", dest="source", type=Path, nargs="+", help="show rows of these files")
    return parser


def _positive(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def positive(text: str) -> Any:
        value = kind(text)
        if not 0 < value < math.inf:
            raise ValueError
        return value

    positive.__name__ = f"positive {kind.__name__}"  # how argparse calls it
    return positive


def _cases(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[Case]:
    """Every combination, each tried out as far as that takes no time."""
    if args.target is None:
        parser.error("--target is needed (or --from, to show what was measured)")
    if args.width and WIDTHS[args.target] is None:
        parser.error(f"--width {args.width[0]}: {args.target} has no such option")
    if args.peer == "none" and args.batched_peer:
        parser.error("--batched-peer contradicts --peer none")
    if args.peer == "torch" and importlib.util.find_spec("torch") is None:
        parser.error("--peer torch needs PyTorch: pip install 'jaxinv[bench]'")
    if args.device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif args.peer == "torch":
        # JAX takes three quarters of a GPU's memory unless told to leave some.
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    if (found := jax.default_backend()) != args.device:
        parser.error(f"--device {args.device}: JAX runs on {found} here")
    grid = itertools.product(
        args.precision,
        args.width or [WIDTHS[args.target]],
        args.size,
        args.batch,
        args.restarts,
    )
    steps = args.iterations or ITERATIONS[args.device][args.target]
    cases = [
        Case(args.target, args.device, restarts, batch, width, size, precision, steps)
        for precision, width, size, batch, restarts in grid
    ]
    for case in cases:
        try:
            case.build()
        except InputError as error:
            parser.error(f"--target {case.target} --size {case.image_size}: {error}")
    return cases


def _measure_all(
    cases: list[Case], args: argparse.Namespace, command: str
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    facts = {
        "command": command,
        "machine": machine(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": _versions(),
    }
    try:
        for case in cases:
            with precision(case.precision):
                new = _measure(case, args)
                rows += [row | facts for row in new]
                if case.device == "cpu":
                    _set_ceiling(rows[-len(new) :], case.device)
            _write(rows, args.json)
            if len(cases) > 1:
                print_rows(rows[-len(new) :])
    finally:
        if args.device == "gpu":
            # Last of all: JAX's peak of memory cannot be set back.
            for name in {row["precision"] for row in rows}:
                with precision(name):
                    _set_ceiling([r for r in rows if r["precision"] == name], "gpu")
        _write(rows, args.json)
    return rows


def _write(rows: list[dict[str, Any]], path: Path | None) -> None:
    if path and rows:
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _set_ceiling(rows: list[dict[str, Any]], device: str) -> None:
    ceiling = matmul_gflops(device)
    for row in rows:
        flops = row["flops_per_iteration"] * row["restart_iterations_per_s"]
        row |= {"ceiling_gflops": ceiling, "ceiling_share": flops / (ceiling * 1e9)}


def _measure(case: Case, args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each contender, without the ceiling."""
    floor = device_peak()
    problem = make_problem(case, args.seed)
    contenders, matches = contenders_of(
        problem,
        peer=args.peer == "torch",
        batched=args.batched_peer or args.device == "gpu",
        peer_seconds=args.peer_seconds,
        peer_threads=args.peer_threads,
    )
    rates: list[list[float]] = [[] for _ in contenders]
    peaks: list[float | None] = [None] * len(contenders)
    for repeat in range(args.repeats):
        for i, contender in enumerate(contenders):
            if repeat == 0:
                rate, peaks[i] = peak_of(
                    contender.run, contender.impl, case.device, floor
                )
            else:
                rate = contender.run()
            rates[i].append(rate)
    medians = dict(
        zip([c.impl for c in contenders], map(statistics.median, rates), strict=True)
    )
    flops = PASSES * forward_flops(problem.target, problem.params, problem.truth)

    def ratio(impl: str, to: str) -> float | None:
        return medians[impl] / medians[to] if to in medians else None

    return [
        {
            "impl": contender.impl,
            **asdict(case),
            "restart_iterations_per_s": medians[contender.impl],
            "spread": [min(rates[i]), max(rates[i])],
            "ratio_to_peer": ratio(contender.impl, "torch eager"),
            "ratio_to_batched": ratio(contender.impl, "torch batched"),
            **contender.facts,
            "peak_mb": peaks[i],
            "flops_per_iteration": flops,
            "ceiling_gflops": None,
            "ceiling_share": None,
            "match_jaxinv": matches[0],
            "match_peer": matches[1],
            "repeats": args.repeats,
            "seed": args.seed,
        }
        for i, contender in enumerate(contenders)
    ]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("jaxinv", "jax", "jaxlib", "flax", "optax", "numpy", "torch"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
