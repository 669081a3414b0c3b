"""Time and memory of one derivative through K steps of an attack.

    python -m bench hardening_cost --json bench/results/hardening-cost-cpu.json

One client of the sigmoid LeNet as initialised, 28x28x1, a picture of noise. The bytes
are XLA's own plan of temporary memory for the whole compiled call.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from bench.hardening_settings import attack_of
from bench.machine import machine
from jaxinv import hardening, models, space
from jaxinv.defenses.noise import gaussian_noise
from jaxinv.defenses.protection import protect
from jaxinv.hardening.unrolled import REMAT
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec


def main(argv: Sequence[str]) -> int:
    """Measures every pair of steps and remat asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench hardening_cost")
    parser.add_argument("--steps", type=int, nargs="*", default=[10, 50, 200])
    parser.add_argument("--remat", nargs="*", choices=REMAT, default=[*REMAT])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    spec = Spec((28, 28, 1), 10)
    target = models.build("lenet", spec)
    params = jax.jit(target.init)(jax.random.key(0))
    batch = Batch(
        jax.random.uniform(jax.random.key(1), (1, 28, 28, 1)), jnp.zeros(1, int)
    )
    std = jax.tree.map(lambda leaf: jnp.asarray(0.01), params)
    rows = []
    for num_steps in args.steps:
        for remat in args.remat:
            privacy = hardening.through_steps(
                target,
                lambda std: protect(gradient(target.loss), gaussian_noise(std)),
                lambda std, batch, num_steps=num_steps: attack_of(
                    target,
                    hardening.inverse_variance(std),
                    space.pixels(spec, labels="known"),
                    num_steps,
                ),
                remat=remat,
            )
            inputs = (jax.random.key(2), std, params, batch)
            began = time.perf_counter()
            compiled = jax.jit(privacy).lower(*inputs).compile()
            compile_s = time.perf_counter() - began
            jax.block_until_ready(compiled(*inputs))
            times = []
            for _ in range(3):
                began = time.perf_counter()
                jax.block_until_ready(compiled(*inputs))
                times.append(time.perf_counter() - began)
            memory = compiled.memory_analysis()
            row = {
                "steps": num_steps,
                "remat": remat,
                "temp_mb": memory.temp_size_in_bytes / 1e6 if memory else None,
                "run_s": min(times),
                "compile_s": compile_s,
                "command": " ".join(["python -m bench hardening_cost", *argv]),
                "machine": machine(),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
            if args.json:
                text = json.dumps(rows, indent=1) + "\n"
                args.json.write_text(text, encoding="utf-8")
    return 0
