"""Updates made in PyTorch and read from files, against the path that never leaves JAX.

    python -m bench torch_updates --data cifar10_subset.npz --json torch_updates.json

A client in PyTorch (a twin of `bench.torch_models`) trains on CIFAR-10 images and saves
what it was sent and what it sends as safetensors. The files are read as `jaxinv audit
update` does, and attacked. Beside it the same weights and images go through
the client in JAX, with the same attack, starts and steps. What is compared is the PSNR
of the recovered image. Before the attack the update's largest difference from JAX's is
taken, over its largest number.

The state dict's names are scrambled first ("m12.weight"), in the order of the modules,
so that the map rests on shapes and order, not on names that happen to agree.

On a ReLU network the two updates differ by rounding, and a long search magnifies that:
two runs in JAX alone, one of them on an update moved by as much as rounding moves it,
say how far apart two equal searches end ("rounding").
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from bench.machine import machine
from bench.torch_models import build_twin, load_flax
from jaxinv import attacks, metrics, models
from jaxinv.attacks import has_loop
from jaxinv.client import simulate
from jaxinv.data import load_images
from jaxinv.exchange import ClientFile, read_update
from jaxinv.fedavg import FedAvg
from jaxinv.local_training import LocalTraining
from jaxinv.observation import Observation
from jaxinv.release import gradient
from jaxinv.run import Runner
from jaxinv.target import Batch, Spec

ROWS: dict[str, dict[str, Any]] = {
    "lenet-gradient": {"model": "lenet", "sent": "gradient", "attack": "dlg"}
    | {"steps": 3000, "restarts": 4},
    "lenet-gradient-lbfgs": {"model": "lenet", "sent": "gradient"}
    | {"attack": "cosine_lbfgs", "steps": 1500, "restarts": 2},
    "lenet-weights": {"model": "lenet", "sent": "weights", "attack": "cosine_lbfgs"}
    | {"steps": 1500, "restarts": 2, "examples": 2, "local_steps": 2},
    "convnet-gradient": {"model": "convnet", "sent": "gradient"}
    | {"options": {"width": 16}, "steps": 400},
    "convnet-weights": {"model": "convnet", "sent": "weights"}
    | {"options": {"width": 16}, "steps": 400, "local_steps": 1},
    "resnet18-gradient": {"model": "resnet18", "sent": "gradient"}
    | {"options": {"width": 8}, "steps": 400},
    "resnet18-weights": {"model": "resnet18", "sent": "weights"}
    | {"options": {"width": 8}, "steps": 400, "local_steps": 1},
}
"""By name: model, what is sent, and the attack."""

RATE = 0.1
"""Step size of the local training."""
_MEAN, _STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def main(argv: Sequence[str]) -> int:
    """Runs the rows asked for, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench torch_updates")
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("--images", type=int, default=2, help="clients of each row")
    parser.add_argument("--steps", type=int, help="instead of each row's own")
    parser.add_argument("--data", required=True, help="such as cifar10_subset.npz")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    lines = []
    for name in args.rows:
        row = {"examples": 1, "restarts": 1, "attack": "inverting_gradients"}
        row = {**row, **ROWS[name], "name": name}
        row["steps"] = args.steps or row["steps"]
        lines.append(measure(row, args.data, args.images) | {"machine": machine()})
        _print(lines)
        if args.json:
            text = json.dumps(lines, indent=1) + "\n"
            args.json.write_text(text, encoding="utf-8")
    return 0


def measure(row: dict[str, Any], path: str, images: int) -> dict[str, Any]:
    """One line of the table.

    Args:
      row: of `ROWS`, complete.
      path: of the images.
      images: how many clients, each with images of its own.
    """
    data = load_images(path)
    spec = Spec(tuple(data.x.shape[1:]), data.num_classes, _MEAN, _STD)
    options = row.get("options", {})
    target = models.build(row["model"], spec, **options)
    params = jax.jit(target.init)(jax.random.key(0))
    twin = load_flax(build_twin(row["model"], spec, **options), params)
    local = None
    if row["sent"] != "gradient":
        local = LocalTraining(RATE, local_steps=row["local_steps"])
    one = gradient(target.loss)
    release = one if local is None else FedAvg(one.loss, local)
    wanted: dict[str, Any] = {"num_steps": row["steps"]}
    if local is not None and has_loop(row["attack"]):
        wanted["release"] = release
    if row["attack"] == "inverting_gradients":
        wanted["tv"] = 0.01
    runner = Runner(
        attacks.build(row["attack"], target, **wanted), num_restarts=row["restarts"]
    )
    pool = jnp.asarray(data.x, jnp.float32) / 255
    each, found = row["examples"], []
    for client in range(images):
        chosen = np.arange(client * each, (client + 1) * each)
        labels = np.asarray(data.y[chosen])
        batch = Batch(spec.normalise(pool[chosen]), jnp.asarray(labels))
        key = jax.random.fold_in(jax.random.key(1), client)
        ours = simulate(
            key,
            target,
            params,
            batch,
            release=release,
            grant=("labels",) if local is None else ("labels", "local_training"),
            sent=row["sent"],
        )
        said = ClientFile(
            spec=spec,
            sent=row["sent"],
            examples=each,
            local=local,
            batch_norm="frozen",
            labels=tuple(int(label) for label in labels),
        )
        theirs = _through_files(row, twin, batch, local, said, target)
        moved = _rounded(ours)
        line: dict[str, Any] = {"difference": _difference(ours, theirs)}
        for name, seen in (("jax", ours), ("torch", theirs), ("rounding", moved)):
            run = runner(key, seen)
            line[name], line[f"bytes_wrong_{name}"] = _judged(run, spec, pool[chosen])
            line[f"score_{name}"] = float(run.found.score)
        found.append(line)
    gaps = {
        name: [abs(one[name] - one["jax"]) for one in found]
        for name in ("torch", "rounding")
    }
    return {
        **row,
        "clients": found,
        "largest_difference": max(one["difference"] for one in found),
        "psnr_jax": float(np.mean([one["jax"] for one in found])),
        "psnr_torch": float(np.mean([one["torch"] for one in found])),
        "largest_gap": max(gaps["torch"]),
        "largest_gap_rounding": max(gaps["rounding"]),
    }


def _through_files(
    row: dict[str, Any],
    twin: torch.nn.Module,
    batch: Batch,
    local: LocalTraining | None,
    said: ClientFile,
    target: Any,
) -> Observation:
    """What the server reads after a client in PyTorch has saved it."""
    before = {n: v.clone() for n, v in twin.state_dict().items()}
    inputs = np.moveaxis(np.asarray(batch.inputs), -1, 1)
    inputs = torch.tensor(np.ascontiguousarray(inputs))
    labels = torch.tensor(np.asarray(batch.labels), dtype=torch.long)
    optimizer = torch.optim.SGD(twin.parameters(), lr=RATE)
    for _ in range(1 if local is None else row["local_steps"]):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(twin(inputs), labels).backward()
        if local is not None:
            optimizer.step()
    if local is None:
        slopes = {n: p.grad for n, p in twin.named_parameters()}
        sent = {n: v.clone() for n, v in slopes.items() if v is not None}
    else:
        sent = {n: v.clone() for n, v in twin.state_dict().items()}
    twin.load_state_dict(before)
    with tempfile.TemporaryDirectory() as folder:
        params, update = (
            str(Path(folder, f"{n}.safetensors")) for n in ("before", "after")
        )
        scrambled = _scrambled(list(before))
        save_file({scrambled[n]: v for n, v in before.items()}, params)
        save_file({scrambled[n]: v for n, v in sent.items()}, update)
        received = read_update(target, params, update, said)
    return received.observation


def _scrambled(names: list[str]) -> dict[str, str]:
    """Names that say nothing but the order of the modules."""
    owners = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    return {
        n: f"m{owners.index(n.rpartition('.')[0])}.{n.rpartition('.')[2]}"
        for n in names
    }


def _rounded(seen: Observation) -> Observation:
    """The same update with its last digits moved, as another order of sums does."""
    rng = np.random.default_rng(0)

    def nudge(leaf: jax.Array) -> jax.Array:
        noise = rng.choice([-1.0, 1.0], leaf.shape) * np.finfo(np.float32).eps
        return (leaf * (1 + noise)).astype(leaf.dtype)

    return seen.replace(update=jax.tree.map(nudge, seen.update))  # pyright: ignore


def _difference(ours: Observation, theirs: Observation) -> float:
    pairs = zip(
        jax.tree.leaves(ours.update), jax.tree.leaves(theirs.update), strict=True
    )
    return max(float(jnp.abs(a - b).max() / jnp.abs(a).max()) for a, b in pairs)


def _judged(run: Any, spec: Spec, truth: jax.Array) -> tuple[float, float]:
    """PSNR in dB, and the share of the picture's bytes that are not the true ones."""
    guess = spec.denormalise(jnp.asarray(run.found.batch.inputs))
    guess = guess[metrics.align(truth, guess)]
    wrong = jnp.round(255 * jnp.clip(guess, 0, 1)) != jnp.round(255 * truth)
    return float(metrics.psnr(truth, guess).mean()), float(wrong.mean())


def _print(lines: list[dict[str, Any]]) -> None:
    columns = {
        "name": "row",
        "largest_difference": "updates differ by",
        "psnr_jax": "JAX dB",
        "psnr_torch": "files dB",
        "largest_gap": "largest gap dB",
        "largest_gap_rounding": "by rounding alone",
    }
    table = Table()
    for title in columns.values():
        table.add_column(title)
    for line in lines:
        cells = (line[key] for key in columns)
        table.add_row(*(c if isinstance(c, str) else f"{c:.3g}" for c in cells))
    Console(width=120).print(table)
