"""Noise learned per tensor against uniform noise, at equal measured utility.

    JAXINV_DATA=... python -m bench hardening --settings mlp-mnist-200 --json out.json

Learned by `jaxinv.hardening`, by default on the posterior to first order, or through
the steps of an attack that starts at the truth. Judged by attacks outside of that: from
noise in three stages (all tensors weighted alike, then half way, then by the likelihood
of the allocation, which the attacker knows), and by the likelihood from the truth,
which no attacker can run: where both end alike the search has converged.
Allocations are scaled until the held-out loss
after noisy training rises as much as under uniform noise.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.hardening_judge import attacker, equal_in_utility, example, interval
from bench.hardening_settings import (
    SETTINGS,
    UTILITY_BATCH,
    UTILITY_STEPS,
    Problem,
    Setting,
    attack_of,
    make_problem,
)
from bench.machine import machine
from jaxinv import hardening, space
from jaxinv.defenses.noise import gaussian_noise
from jaxinv.defenses.protection import protect
from jaxinv.release import gradient


def main(argv: Sequence[str]) -> int:
    """Runs the settings asked for; every finished one is written at once."""
    parser = argparse.ArgumentParser(prog="python -m bench hardening")
    parser.add_argument("--settings", nargs="*", choices=SETTINGS, default=[*SETTINGS])
    parser.add_argument(
        "--learn", choices=("posterior", "unrolled"), default="posterior"
    )
    parser.add_argument("--iterations", type=int, default=60, help="of the posterior")
    parser.add_argument("--precision", type=float, default=0.1, help="of the prior")
    parser.add_argument("--steps", type=int, default=50, help="of learning")
    parser.add_argument("--clients", type=int, default=4, help="in each of them")
    parser.add_argument("--unrolled", type=int, default=100, help="steps of attack")
    parser.add_argument("--last", type=int, default=40, help="differentiated")
    parser.add_argument("--stage", type=int, default=800, help="steps of each stage")
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--utility-runs", type=int, default=16)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    folder = Path(os.environ.get("JAXINV_DATA", ""))
    if not (folder / "mnist_subset.npz").exists():
        parser.error("JAXINV_DATA must name the folder of mnist_subset.npz")
    rows = []
    for name in args.settings:
        row = {"setting": name, **_row(SETTINGS[name], folder, args)}
        row["command"] = " ".join(["python -m bench hardening", *argv])
        row["machine"] = machine()
        rows.append(row)
        print(json.dumps({k: row[k] for k in ("setting", "gain")}), flush=True)
        if args.json:
            args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def _row(setting: Setting, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    problem = make_problem(setting, folder, args.images)
    uniform = jax.tree.map(lambda leaf: jnp.asarray(setting.std), problem.params)
    prices = jax.jit(
        lambda key, params, batch: hardening.noise_prices(
            key,
            problem.target.loss,
            params,
            batch,
            learning_rate=setting.learning_rate,
            std=setting.std,
            draws=16,
        )
    )(jax.random.key(3), problem.params, _first(problem.held_out, 100))
    learned, history, seconds = _learn(setting, problem, prices, uniform, args)
    allocations = {
        "uniform": uniform,
        "to each tensor's size": _relative(problem),
        "learned": learned,
    }
    allocations, harm = equal_in_utility(problem, allocations, args.utility_runs)
    attack = attacker(setting, problem, args)
    psnr = {
        name: {k: np.asarray(v) for k, v in attack(std).items()}
        for name, std in allocations.items()
    }
    # The strongest attacker that can be run, chosen for each allocation on its own.
    best = {
        name: max((v for k, v in each.items() if k != "from the truth"), key=np.mean)
        for name, each in psnr.items()
    }
    truth = {name: each["from the truth"] for name, each in psnr.items()}
    names = [jax.tree_util.keystr(p) for p, _ in _leaves(problem.params)]
    return {
        "learn": args.learn,
        "trained": setting.trained,
        "tensors": names,
        "sizes": [leaf.size for _, leaf in _leaves(problem.params)],
        "price_per_entry": [
            float(c) / leaf.size
            for c, (_, leaf) in zip(
                jax.tree.leaves(prices), _leaves(problem.params), strict=True
            )
        ],
        "std": {
            name: [float(s) for s in jax.tree.leaves(std)]
            for name, std in allocations.items()
        },
        "extra_loss": harm,
        "utility": f"{UTILITY_STEPS} steps of {UTILITY_BATCH}, both signs",
        "psnr": {
            name: {k: interval(v) for k, v in each.items()}
            for name, each in psnr.items()
        },
        "psnr_images": {
            name: {k: [round(float(x), 3) for x in v] for k, v in each.items()}
            for name, each in psnr.items()
        },
        # Positive where the learned allocation hides more, dB, paired by image.
        "gain": {
            "strongest attack, over uniform": interval(
                best["uniform"] - best["learned"]
            ),
            "strongest attack, over each tensor's size": interval(
                best["to each tensor's size"] - best["learned"]
            ),
            "from the truth, over uniform": interval(
                truth["uniform"] - truth["learned"]
            ),
        },
        "history": history,
        **seconds,
    }


def _learn(
    setting: Setting, problem: Problem, prices: Any, uniform: Any, args: Any
) -> tuple[Any, list[float], dict[str, float]]:
    target = problem.target
    budget = sum(float(c) for c in jax.tree.leaves(prices)) * setting.std**2
    constraint = hardening.noise_budget(prices, budget)
    pixels = space.pixels(target.spec, labels="known")

    steps = hardening.through_steps(
        target,
        lambda std: protect(gradient(target.loss), gaussian_noise(std)),
        lambda std, batch: attack_of(
            target,
            hardening.inverse_variance(std),
            hardening.from_truth(pixels, batch),
            args.unrolled,
        ),
        distance=hardening.decibels(target),
        last=args.last,
        remat="step",
    )

    posterior = hardening.to_first_order(
        target,
        precision=args.precision,
        smoothness=_smoothness(problem.train.inputs),
        distance=hardening.decibels(target),
        num_iterations=args.iterations,
    )
    privacy = posterior if args.learn == "posterior" else steps

    @jax.jit
    def run(key: jax.Array, theta: Any, params: Any, train: Any):
        def clients(key: jax.Array):
            row = jax.random.randint(key, (), 0, len(train.labels))
            return params, example(train, row)

        return hardening.harden(
            key,
            theta,
            privacy,
            clients,
            num_steps=args.steps,
            constraint=constraint,
            optimizer=optax.adam(optax.cosine_decay_schedule(0.4, args.steps)),
            num_clients=args.clients,
        )

    start = constraint.invert(uniform)
    began = time.perf_counter()
    inputs = (jax.random.key(0), start, problem.params, problem.train)
    compiled = run.lower(*inputs).compile()
    middle = time.perf_counter()
    found = jax.block_until_ready(compiled(*inputs))
    seconds = {"compile_s": middle - began, "learn_s": time.perf_counter() - middle}
    seconds["finite"] = float(found.history["finite"].mean())
    return found.parameters, [float(x) for x in found.history["privacy"]], seconds


def _smoothness(inputs: jax.Array) -> float:
    """One over twice the mean squared difference of neighbours."""
    squares = [jnp.mean(jnp.diff(inputs, axis=axis) ** 2) for axis in (1, 2)]
    return float(1 / sum(squares))


def _relative(problem: Problem) -> Any:
    """In proportion to the root mean square of each tensor of clients' gradients."""
    release = jax.jit(gradient(problem.target.loss))
    squares = [
        jax.tree.map(
            lambda g: jnp.mean(g**2),
            release(jax.random.key(0), problem.params, example(problem.train, i)),
        )
        for i in range(16)
    ]
    return jax.tree.map(lambda *s: jnp.sqrt(jnp.stack(s).mean()), *squares)


def _first(batch: Any, count: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[:count], batch)


def _leaves(tree: Any) -> list[Any]:
    return jax.tree_util.tree_flatten_with_path(tree)[0]
