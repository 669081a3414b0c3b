"""What is recovered from local training: a weight delta instead of a gradient.

    JAXINV_DATA=... python -m bench fedavg --json fedavg.json

Clients of 4 CIFAR-10 images take 4 local steps of 2 images at learning rate 1e-3 and
send their new weights in float32: the FedAvg case of the breaching framework, whose
printed figure is 20.78 dB, for one client and a pretrained ResNet-18. Models here are
as initialised, so that its figure says what is usual and no more. The attack is that of
Inverting Gradients through all local steps, cosine and total variation in the box of
pixels, on the LeNet, which is smooth, as `jaxinv.attacks.cosine_lbfgs`; the start with
the best score of its own counts. PSNR after each client's images are aligned, over all
images of all clients.

    known      labels and order known
    recovered  how often each label occurs is read from the delta; each start puts them
               in an order of its own
    guessed    labels known; the order is drawn anew for each epoch, and the attacker
               takes the images for the order in which they lie
    epochs     the same client; every epoch has unknowns of its own, see
               `jaxinv.attacks.fedavg_epochs` (Dimitrov et al. 2022)
    control    the pictures of `known` held against the next client's images
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.fedavg_rows import EACH, LOCAL, ROWS, Row, attack_of
from bench.machine import machine
from jaxinv import metrics, models
from jaxinv.data import load_images
from jaxinv.fedavg import fedavg
from jaxinv.local_training import LocalTraining
from jaxinv.observation import Observation, observe
from jaxinv.release import trained
from jaxinv.run import Runner
from jaxinv.target import Batch, Spec

PUBLISHED = 20.78
"""Of the breaching framework, dB."""


def main(argv: Sequence[str]) -> int:
    """Runs the rows asked for, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench fedavg")
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--restarts", type=int, help="instead of each row's own")
    parser.add_argument("--iterations", type=int, help="instead of each row's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    path = Path(os.environ.get("JAXINV_DATA", "")) / "cifar10_subset.npz"
    if not path.exists():
        parser.error("JAXINV_DATA must name the folder of cifar10_subset.npz")
    own = {name: json.loads(v) for name, v in (s.split("=", 1) for s in args.set)}
    facts = {
        "command": " ".join(["python -m bench fedavg", *argv]),
        "machine": machine(),
        "load_average": os.getloadavg()[0],
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("jaxinv", "jax", "jaxlib", "optax", "numpy")
        },
        "seed": args.seed,
    }
    lines: list[dict[str, Any]] = []
    for name in args.rows:
        row = ROWS[name]
        row = replace(
            row,
            restarts=args.restarts or row.restarts,
            iterations=args.iterations or row.iterations,
            clients=row.clients or args.clients,
            options=row.options | own,
        )
        lines += [line | facts for line in _measure(row, path, args.seed)]
        _print(lines)
        if args.json:
            text = json.dumps(lines, indent=1) + "\n"
            args.json.write_text(text, encoding="utf-8")
    return 0


def _measure(row: Row, path: Path, seed: int) -> list[dict[str, Any]]:
    """The row's line, and the control's beside the first kind."""
    data = load_images(str(path))
    spec = Spec(tuple(data.x.shape[1:]), data.num_classes)
    target = models.build(row.target, spec)
    key_params, key_client, key_attack = jax.random.split(jax.random.key(seed), 3)
    params = jax.jit(target.init)(key_params)
    order = "shuffled" if row.kind in ("guessed", "epochs") else None
    release = fedavg(
        target.loss,
        LOCAL.learning_rate,
        local_steps=LOCAL.local_steps,
        batch_size=LOCAL.batch_size,
        order=order,
    )
    train = jax.jit(release)
    runner = Runner(
        attack_of(row, target, release.local),
        num_restarts=row.restarts,
        keep=row.restarts,
    )
    pool = jnp.asarray(data.x, jnp.float32) / 255
    found, oracle, correct = [], [], []
    seconds = 0.0
    for client in range(row.clients or 1):
        chosen = np.arange(client * EACH, (client + 1) * EACH)
        batch = Batch(spec.normalise(pool[chosen]), jnp.asarray(data.y[chosen]))
        delta = train(jax.random.fold_in(key_client, client), params, batch)
        seen = _observed(row, spec, params, delta, release.local, data.y[chosen])
        run = runner(jax.random.fold_in(key_attack, client), seen)
        seconds += run.seconds
        aligned = _aligner(spec, pool[chosen])
        guess, labels = aligned(run.found.batch)
        found.append(guess)
        correct.append(labels == data.y[chosen])
        kept = run.found.stats["kept"].batch
        each = [
            metrics.psnr(
                pool[chosen], aligned(jax.tree.map(lambda x, i=i: x[i], kept))[0]
            )
            for i in range(row.restarts)
        ]
        oracle.append(max(each, key=lambda values: float(jnp.mean(values))))
    guess = jnp.concatenate(found)
    index = jnp.arange(len(guess))
    line = {
        "impl": "jaxinv",
        **asdict(row),
        "weights": "as initialised",
        "local_training": asdict(release.local),
        "sent": "new weights, float32",
        "images_each": EACH,
        "published_psnr": PUBLISHED,
        "published_of": "breaching, one client, pretrained ResNet-18, labels known",
        **_judged(pool, guess, index),
        "oracle_psnr_median": float(np.median(np.concatenate(oracle))),
        "label_accuracy": float(np.mean(np.concatenate(correct))),
        "compile_s": runner.compile_s,
        "run_s": seconds,
        "restart_iterations_per_s": row.restarts
        * row.iterations
        * (row.clients or 1)
        / seconds,
    }
    if row.kind != "known" or len(found) < 2:
        return [line]
    # Each client's pictures are aligned with the next one's images, as if they were.
    others = np.roll(np.asarray(index).reshape(-1, EACH), -1, 0)
    swapped = [
        own[metrics.align(pool[other], own)]
        for own, other in zip(found, others, strict=True)
    ]
    control = _judged(pool, jnp.concatenate(swapped), jnp.asarray(others.reshape(-1)))
    return [line, {"impl": "jaxinv", **asdict(row), "kind": "control", **control}]


def _observed(
    row: Row,
    spec: Spec,
    params: Any,
    delta: Any,
    local: LocalTraining,
    labels: np.ndarray,
) -> Observation:
    """What the server has: new weights, and what the row grants."""
    return observe(
        params,
        jax.tree.map(jnp.add, trained(params), delta),
        num_examples=EACH,
        spec=spec,
        labels=None if row.kind == "recovered" else labels,
        sent="weights",
        local_training=local,
    )


def _aligner(spec: Spec, truth: jax.Array) -> Callable:
    """`(batch) -> pixels and labels` in the order of the truth."""

    def aligned(batch: Batch) -> tuple[jax.Array, np.ndarray]:
        pixels = spec.denormalise(jnp.asarray(batch.inputs))
        order = metrics.align(truth, pixels)
        return pixels[order], np.asarray(batch.labels)[np.asarray(order)]

    return aligned


def _judged(pool: jax.Array, guess: jax.Array, index: jax.Array) -> dict[str, Any]:
    psnr = metrics.psnr(pool[index], guess)
    rank = metrics.identifiability(guess, pool, index)
    return {
        "psnr_median": float(np.median(psnr)),
        "psnr_mean": float(psnr.mean()),
        "psnr": [float(value) for value in psnr],
        "ssim_mean": float(metrics.ssim(pool[index], guess).mean()),
        "identified": float(np.mean(rank == 0)),
        "chance": 1 / len(pool),
    }


def _print(lines: list[dict[str, Any]]) -> None:
    columns = {
        "target": "target",
        "kind": "row",
        "clients": "clients",
        "restarts": "restarts",
        "iterations": "steps",
        "psnr_median": "median dB",
        "psnr_mean": "mean dB",
        "oracle_psnr_median": "oracle dB",
        "label_accuracy": "labels",
        "identified": "identified",
        "restart_iterations_per_s": "it/s",
        "compile_s": "compile s",
        "run_s": "run s",
    }
    table = Table(caption=f"breaching prints {PUBLISHED} dB, pretrained ResNet-18")
    for title in columns.values():
        table.add_column(title)
    for line in lines:
        table.add_row(*(_cell(line.get(key)) for key in columns))
    Console(width=160).print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
