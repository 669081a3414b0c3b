"""Whether an operation deserves a kernel of its own, or XLA already does it.

    python -m bench kernels --json kernels.json

Each candidate of `bench.candidates` in its plain form and in others, as jitted, beside
what the machine allows: the least bytes at the bandwidth of a triad `a = b + 3 c` or of
an inner product (of large arrays, the better of the two), or the operations at the rate
of a matrix product (`bench.ceiling`), whichever takes longer. The share of
that limit which a form reaches is what a kernel could at most gain; above 1 it worked
in a cache that is faster than the memory. Beside it the share of an attack's
step that the match and the total variation take: where that is small, so is all that
a kernel can gain.

Calls are timed with their dispatch, and forms take turns, so that noise meets them
all. Times are medians. Measure on a machine that does nothing
else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.table import Table

from bench.candidates import FLOAT, Candidate, Form, candidates, match, total_variation
from bench.ceiling import PASSES, forward_flops, matmul_gflops
from bench.machine import machine
from bench.problem import OPTIONS, Case, Problem, make_problem
from jaxinv import matching, priors, space
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.attacks.optimizers import signed_gradient, step_decay
from jaxinv.factored import Factored
from jaxinv.objective import objective
from jaxinv.release import gradient, trained

GROUPS = ("match", "tv", "span", "spikes", "step")
GAIN = 0.05
"""Of a step: what a kernel must be able to save, where that is known."""
ENOUGH = 0.5
"""Of the limit: a form that reaches it leaves a kernel less than a factor of 2."""

Row = dict[str, Any]


class Limits(NamedTuple):
    """What the machine does at best."""

    bandwidth_gb_s: float
    """Of the memory, in 10^9 bytes a second."""
    ceiling_gflops: float
    """Of a matrix product."""

    def ms(self, least_bytes: float, flops: float) -> float:
        """The time that neither can undercut."""
        moving = least_bytes / (self.bandwidth_gb_s * 1e6)
        return max(moving, flops / (self.ceiling_gflops * 1e6))


class InnerProduct(matching.ProductMatch):
    """The least a match can do: no norms, and the gradient is the observed update."""

    def __call__(self, guess: Any, observed: Any) -> jax.Array:
        pairs = zip(jax.tree.leaves(guess), jax.tree.leaves(observed), strict=True)
        terms = [
            g.inner(u) if isinstance(g, Factored) else jnp.vdot(g, u) for g, u in pairs
        ]
        return -sum(terms, start=jnp.zeros(()))


def main(argv: Sequence[str]) -> int:
    """Measures what was asked for, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m bench kernels", description="what a kernel could gain"
    )
    add = parser.add_argument
    add("--device", choices=("cpu", "gpu"), default="cpu")
    add("--only", choices=GROUPS, nargs="+", default=GROUPS)
    add("--scale", choices=("full", "tiny"), default="full", help="tiny: to try it out")
    add("--repeats", type=int, default=5)
    add("--json", type=Path, help="write the rows to this file")
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error(f"--repeats is {args.repeats}; expected 1 or more")
    if args.json and not args.json.parent.is_dir():
        parser.error(f"--json {args.json}: there is no folder {args.json.parent}")
    if args.device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    if (found := jax.default_backend()) != args.device:
        parser.error(f"--device {args.device}: JAX runs on {found} here")
    facts = {
        "device": args.device,
        "scale": args.scale,
        "repeats": args.repeats,
        "machine": machine(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "command": " ".join(["python -m bench kernels", *argv]),
    }
    rows = [row | facts for row in measure_all(args)]
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print_rows(rows)
    return 0


def measure_all(args: argparse.Namespace) -> list[Row]:
    """A row for each form of each candidate, with its verdict."""
    limits = Limits(_bandwidth(args), matmul_gflops(args.device))
    rows: list[Row] = []
    share: dict[str, float] = {}
    if "step" in args.only:
        for model in ("mlp",) if args.scale == "tiny" else ("lenet", "convnet"):
            new = _step_rows(model, args, limits)
            rows += new
            for row in new:
                # Alone a part is timed with a dispatch of its own, so that only what
                # leaving it out saves counts as its share.
                if row["candidate"].startswith("step"):
                    part, saved = row["part"], row["share_of_step"] or 0.0
                    share[part] = max(share.get(part, 0.0), saved)
    for candidate in candidates(args.scale, set(args.only)):
        new = _rows(candidate, args, limits)
        _judge(new, candidate, share.get(candidate.name))
        for row in new:
            row["part"] = ""
        rows += new
    return rows


def repeated(run: Callable[..., Any], args: Any) -> tuple[Callable[[int], Any], float]:
    """`count -> last result` of so many calls, each awaited; seconds to compile it.

    Not a loop inside one program: XLA moves what does not change out of it, through
    an optimisation barrier too. So the time of a dispatch is in, which weighs on
    operations of less than a millisecond.
    """
    began = time.perf_counter()
    compiled = jax.jit(run).lower(*args).compile()
    seconds = time.perf_counter() - began

    def calls(count: int) -> Any:
        result = None
        for _ in range(count):
            result = jax.block_until_ready(compiled(*args))
        return result

    return calls, seconds


def timed(forms: Sequence[Form], args: argparse.Namespace) -> list[Row]:
    """Median, extremes and compile time of each form, which take turns."""
    least = 0.1 if args.scale == "full" else 0.001  # seconds of one repetition
    programs = [repeated(form.run, form.args) for form in forms]

    def seconds(program: Callable[[int], Any], count: int) -> float:
        began = time.perf_counter()
        jax.block_until_ready(program(count))
        return (time.perf_counter() - began) / count

    counts = []
    for program, _ in programs:
        count = 1
        seconds(program, count)
        for goal in (least / 10, least):
            count = max(1, round(goal / seconds(program, count)))
        counts.append(count)
    times: list[list[float]] = [[] for _ in forms]
    for _ in range(args.repeats):
        for own, (program, _), count in zip(times, programs, counts, strict=True):
            own.append(1e3 * seconds(program, count))
    return [
        {
            "ms": statistics.median(own),
            "spread": [min(own), max(own)],
            "compile_s": compile_s,
        }
        for own, (_, compile_s) in zip(times, programs, strict=True)
    ]


def _bandwidth(args: argparse.Namespace) -> float:
    size = 2**20 if args.scale == "tiny" else 2**28 if args.device == "gpu" else 2**24
    b, c = jnp.ones(size), jnp.ones(size)
    forms = [
        Form("triad", lambda b, c: b + 3.0 * c, (b, c)),
        Form("reading", lambda b, c: jnp.vdot(b, c), (b, c)),
    ]
    arrays = (3, 2)
    return max(
        n * FLOAT * size / (row["spread"][0] * 1e6)
        for n, row in zip(arrays, timed(forms, args), strict=True)
    )


def _rows(candidate: Candidate, args: argparse.Namespace, limits: Limits) -> list[Row]:
    rows = []
    measured = timed(candidate.forms, args)
    for form, row in zip(candidate.forms, measured, strict=True):
        flops = candidate.flops if form.flops is None else form.flops
        limit = limits.ms(candidate.least_bytes, flops)
        rows.append(
            {
                "candidate": candidate.name,
                "form": form.name,
                "shape": candidate.shape,
                **row,
                "least_bytes": candidate.least_bytes,
                "flops": flops,
                "limit_ms": limit,
                "share_of_limit": limit / row["ms"],
                "share_of_step": None,
                "verdict": "",
                **limits._asdict(),
            }
        )
    return rows


def _judge(rows: list[Row], candidate: Candidate, share: float | None) -> None:
    """Writes the verdicts of one candidate: of its plain form, then of the others.

    Args:
      rows: in the order of the candidate's forms.
      candidate: what they measure.
      share: of a step that its plain form takes at most, where that was measured.
    """
    plain = rows[0]
    equals = [r for r, f in zip(rows, candidate.forms, strict=True) if f.equal]
    best = min(equals, key=lambda row: row["ms"])
    for row, form in zip(rows[1:], candidate.forms[1:], strict=True):
        row["verdict"] = (
            f"{plain['ms'] / row['ms']:.2f} times as fast as the plain form"
        )
        if not form.equal:
            row["verdict"] += f", but {candidate.note}"
    reached = f"plain form reaches {plain['share_of_limit']:.0%} of the limit"
    if best["share_of_limit"] > 1.1 * plain["share_of_limit"]:
        reached += f", '{best['form']}' {best['share_of_limit']:.0%}"
    left = max(0.0, 1.0 - best["share_of_limit"])
    # The better form first takes its part of the step down.
    gain = None if share is None else share * left * best["ms"] / plain["ms"]
    if gain is not None:
        reached += f"; a kernel at the limit would save {gain:.1%} of a step more"
    enough = left <= 1 - ENOUGH or (gain is not None and gain < GAIN)
    plain["verdict"] = f"{'kept' if enough else 'worth a kernel'}: {reached}"


def _step_rows(model: str, args: argparse.Namespace, limits: Limits) -> list[Row]:
    """A step of Inverting Gradients, whole and in parts."""
    tiny = args.scale == "tiny"
    width = None if model == "lenet" else 4 if tiny else 64
    size = 12 if tiny else 32
    problem = make_problem(
        Case(model, args.device, 1, 1, width, size, "default", 100), seed=0
    )
    cosine, inner = matching.cosine(), InnerProduct(lambda x: x, matching.equal)
    tv = priors.weighted((OPTIONS["tv"], priors.total_variation()))
    steps = [
        _step("whole", problem, cosine, tv),
        _step("without total variation", problem, cosine, priors.no_prior),
        _step("an inner product for the match", problem, inner, tv),
    ]
    weights = trained(problem.params)
    num = sum(x.size for x in jax.tree.leaves(weights))
    whole = Candidate(
        f"step of {model}",
        "x".join(map(str, problem.truth.inputs.shape)),
        steps,
        # The weights and what was observed are read.
        least_bytes=2 * FLOAT * num,
        flops=PASSES * forward_flops(problem.target, problem.params, problem.truth),
    )
    alone = [
        ("match", match(weights, f"match of {model}")),
        ("total variation", total_variation((1, *problem.truth.inputs.shape))),
    ]
    rows: list[Row] = [row | {"part": ""} for row in _rows(whole, args, limits)]
    ms: Any = rows[0]["ms"]
    rows[0]["verdict"] = f"reaches {rows[0]['share_of_limit']:.0%} of the limit"
    for row, part in zip(rows[1:], ("total variation", "match"), strict=True):
        share = 1 - row["ms"] / ms
        row.update(part=part, share_of_step=share)
        row["verdict"] = f"leaving that out saves {share:.1%} of the step"
    for part, candidate in alone:
        only = candidate._replace(
            name=f"{part} of {model}", forms=candidate.forms[:1], flops=candidate.flops
        )
        [row] = _rows(only, args, limits)
        share = row["ms"] / ms
        row.update(part=part, share_of_step=share)
        row["verdict"] = f"alone it takes as long as {share:.1%} of the step"
        rows.append(row)
    return rows


def _step(
    name: str, problem: Problem, match: matching.MatchFn, prior: priors.PriorFn
) -> Form:
    """A step of Inverting Gradients with that match and prior."""
    target, steps = problem.target, problem.case.iterations
    adam = optax.adam(step_decay(OPTIONS["learning_rate"], steps))
    attack = gradient_matching(
        objective(gradient(target.loss), match, prior),
        space.pixels(target.spec),
        optax.chain(signed_gradient("hard"), adam),
        steps,
    )
    state = jax.jit(attack.init)(problem.key, problem.observation)
    # The result's first leaf is what the next call waits for, and keys have no zero.
    return Form(
        name,
        lambda observation, state: attack.step(observation, state)[0]._replace(key=0),
        (problem.observation, state),
    )


def print_rows(rows: Sequence[Row]) -> None:
    """The table, on standard output."""
    table = Table()
    for title in ("candidate", "shape", "form"):
        table.add_column(title)
    for title in ("ms", "limit ms", "of limit", "MB", "MFLOP", "compile s"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict")
    for row in rows:
        table.add_row(
            *(row[key] for key in ("candidate", "shape", "form")),
            f"{row['ms']:.4g}",
            f"{row['limit_ms']:.4g}",
            f"{row['share_of_limit']:.0%}",
            f"{row['least_bytes'] / 1e6:.4g}",
            f"{row['flops'] / 1e6:.4g}",
            f"{row['compile_s']:.2g}",
            row["verdict"],
        )
    console = Console(width=160)
    console.print(table)
    if rows:
        console.print(
            f"{rows[0]['bandwidth_gb_s']:.4g} GB/s by a triad or an inner product, "
            f"{rows[0]['ceiling_gflops']:.4g} GFLOP/s by a matrix product; "
            f"{rows[0]['machine']}"
        )
