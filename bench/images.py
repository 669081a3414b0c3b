"""What the attacks recover from the first CIFAR-10 images, beside what is asked.

    JAXINV_DATA=... python -m bench images --json images.json

Batch of one, labels known, the attacker's own score picks. The control row holds the
pictures of the row above it against another image than their own. The ConvNet row runs
the same attack in PyTorch on the same weights, starts and steps.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.machine import machine
from jaxinv import metrics, models, space
from jaxinv.audits.images import AuditConfig, AuditResult, run_audit
from jaxinv.data import load_images
from jaxinv.observation import observe
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    target: str
    attack: str
    asked: float | None
    """Median PSNR that it has to reach, dB; None where the peer is the measure."""
    restarts: int = 1
    iterations: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    peer: bool = False


ROWS = {
    "linear": Row("mlp", "linear_layer", 45),
    "rgap": Row("lenet", "rgap", 45),
    "dlg": Row("lenet", "dlg", 35, restarts=8),
    # A smooth model needs no sign, and gains from a cosine schedule.
    "ig": Row(
        "lenet",
        "inverting_gradients",
        24,
        restarts=4,
        iterations=2000,
        options={
            "signed": None,
            "schedule": "cosine",
            "learning_rate": 0.05,
            "tv": 1e-3,
        },
    ),
    "convnet": Row(
        "convnet",
        "inverting_gradients",
        None,
        iterations=150,
        options={"tv": 0.01},
        peer=True,
    ),
}


def main(argv: Sequence[str]) -> int:
    """Runs the rows asked for, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench images")
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("--num-examples", type=int, default=16)
    parser.add_argument("--iterations", type=int, help="for rows with a loop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    path = Path(os.environ.get("JAXINV_DATA", "")) / "cifar10_subset.npz"
    if not path.exists():
        parser.error("JAXINV_DATA must name the folder of cifar10_subset.npz")
    lines = []
    for name in args.rows:
        row = ROWS[name]
        steps = args.iterations if args.iterations and row.iterations else None
        config = AuditConfig(
            target=row.target,
            attack=row.attack,
            restarts=row.restarts,
            iterations=steps or row.iterations,
            num_examples=args.num_examples,
            data=str(path),
            seed=args.seed,
            attack_options=row.options,
        )
        result = run_audit(config)
        lines.append(_line(name, row, result))
        if name == "dlg":
            lines.append(_control(result, config))
        if row.peer:
            lines.append(_peer(row, config))
        _print(lines[-3:] if name == "dlg" else lines[-2:])
    _print(lines)
    command = " ".join(["python -m bench images", *argv])
    for line in lines:
        line |= {"command": command, "machine": machine()}
    if args.json:
        args.json.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
    return 0


def _line(name: str, row: Row, result: AuditResult) -> dict[str, Any]:
    report = result.report
    keys = ("psnr_median", "psnr_mean", "ssim_mean", "label_accuracy", "identified")
    return {
        "row": name,
        "impl": "jaxinv",
        "target": row.target,
        "attack": row.attack,
        "options": row.options,
        "asked_psnr": row.asked,
        **{key: report["summary"][key] for key in keys},
        "psnr": [e["psnr"] for e in report["examples"]],
        "oracle_psnr_median": report["summary"]["oracle_psnr_median"],
        "diverged_share": report["summary"]["diverged_share"],
        **{k: report[k] for k in ("restarts", "iterations", "compile_s", "run_s")},
        "restart_iterations_per_s": report["restart_iterations_per_s"],
        "device": report["device"],
        "versions": report["versions"],
        "seed": report["seed"],
    }


def _control(result: AuditResult, config: AuditConfig) -> dict[str, Any]:
    """Every picture against the next image's truth: what a wrong update recovers."""
    data = load_images(config.data)
    found = jnp.stack(
        [jnp.asarray(p.found, jnp.float32) / 255 for p in result.pictures]
    )
    index = np.roll([p.index for p in result.pictures], 1)
    pool = jnp.asarray(data.x, jnp.float32) / 255
    rank = metrics.identifiability(found, pool, jnp.asarray(index))
    psnr = metrics.psnr(pool[index], found)
    return {
        "row": "control",
        "impl": "jaxinv",
        "target": config.target,
        "attack": f"{config.attack}, wrong update",
        "psnr_median": float(np.median(psnr)),
        "psnr_mean": float(psnr.mean()),
        "identified": float(np.mean(rank == 0)),
        "chance": 1 / len(pool),
        "mean_rank_share": float(np.mean(rank) / (len(pool) - 1)),
    }


def _peer(row: Row, config: AuditConfig) -> dict[str, Any]:
    """The same attack in PyTorch: same weights, starts and steps."""
    import torch

    from bench.torch_models import build_twin, load_flax
    from bench.torch_peer import inverting_gradients

    data = load_images(config.data)
    spec = Spec(tuple(data.x.shape[1:]), data.num_classes)
    target = models.build(row.target, spec)
    key_params, key_attack = jax.random.split(jax.random.key(config.seed))
    params = jax.jit(target.init)(key_params)
    module = load_flax(build_twin(row.target, spec), params)
    psnrs, seconds = [], 0.0
    for i in range(config.num_examples):
        truth = jnp.asarray(data.x[i : i + 1], jnp.float32) / 255
        batch = Batch(spec.normalise(truth), jnp.asarray(data.y[i : i + 1]))
        update = jax.jit(gradient(target.loss))(key_attack, params, batch)
        observation = observe(
            params, update, num_examples=1, spec=spec, labels=data.y[i : i + 1]
        )
        # The start that the audit's first restart drew for this batch.
        key = jax.random.split(jax.random.fold_in(key_attack, i), config.restarts)[0]
        z, _ = space.pixels(spec).init(jax.random.split(key)[0], observation)
        run = inverting_gradients(
            module,
            np.asarray(batch.inputs),
            data.y[i : i + 1],
            np.asarray(z.inputs),
            tuple(np.asarray(b) for b in spec.box()),  # pyright: ignore
            num_steps=int(config.iterations or 0),
            learning_rate=0.1,
            tv=row.options["tv"],
        )
        seconds += run.seconds
        psnrs.append(
            float(metrics.psnr(truth, spec.denormalise(jnp.asarray(run.inputs)))[0])
        )
    steps = config.num_examples * int(config.iterations or 0)
    return {
        "row": "convnet",
        "impl": f"torch {torch.__version__} eager",
        "target": row.target,
        "attack": row.attack,
        "options": row.options,
        "psnr_median": float(np.median(psnrs)),
        "psnr_mean": float(np.mean(psnrs)),
        "psnr": psnrs,
        "restarts": 1,
        "iterations": config.iterations,
        "run_s": seconds,
        "restart_iterations_per_s": steps / seconds,
        "device": f"cpu, {torch.get_num_threads()} threads",
    }


def _print(lines: list[dict[str, Any]]) -> None:
    table = Table()
    columns = {
        "row": "row",
        "impl": "impl",
        "target": "target",
        "attack": "attack",
        "restarts": "restarts",
        "iterations": "steps",
        "asked_psnr": "asked dB",
        "psnr_median": "median dB",
        "psnr_mean": "mean dB",
        "identified": "identified",
        "restart_iterations_per_s": "it/s",
        "compile_s": "compile s",
        "run_s": "run s",
    }
    for title in columns.values():
        table.add_column(title)
    for line in lines:
        cells = [line.get(key) for key in columns]
        table.add_row(*(_cell(cell) for cell in cells))
    Console(width=160).print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
