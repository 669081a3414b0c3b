"""Selective encryption: what is left to attack, by what is encrypted and how much.

    JAXINV_DATA=... python -m bench encryption --model lenet --json encryption.json

First CIFAR-10 images, a batch of one each, labels known, models as initialised. Every
image is one client; every mask of it is attacked from the same start.

    lenet   DLG by L-BFGS on the sigmoid LeNet
    cnn6    Inverting Gradients on the CNN of R-GAP (LeakyReLU, strides)
    mlp     the closed forms on a multi-layer perceptron

Attackers: "masked" leaves encrypted numbers out of the match, "zero" takes them for
zeros, "mean" for the mean of their tensor, "previous" for what was plain the round
before (one step of gradient descent ago, its mask drawn or chosen anew).

Each attack is compiled once: the mask is data, and a form that fills numbers in is the
same program with everything visible. Images are taken one after the other until the
budget is spent; an image that was begun and not finished is left out.
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

from bench.encryption_closed import closed_forms, labels_read, seen_of
from bench.encryption_masks import (
    FEWER,
    RATIOS,
    STRATEGIES,
    clients_of,
    costs,
    mask_of,
    removed_shares,
)
from bench.encryption_table import print_summary, summary
from bench.machine import machine
from jaxinv import metrics, models
from jaxinv.attacks import dlg, inverting_gradients, iterate
from jaxinv.attacks.encrypted import read_as
from jaxinv.data import load_images
from jaxinv.observation import Knowledge, Observation
from jaxinv.target import Spec, Target

MODELS = {
    "lenet": ("lenet", {}),
    "cnn6": ("cnn6", {}),
    "mlp": ("mlp", {"widths": (64,)}),
}
STEPS = {"lenet": 1000, "cnn6": 250}
CHUNK = {"lenet": 16, "cnn6": 8}
FILLED = {
    "zero": (("random", "magnitude", "sensitivity"), (0.01, 0.1, 0.3, 0.5, 0.9)),
    "mean": (("magnitude",), (0.01, 0.1, 0.3)),
    "previous": (("random", "magnitude"), (0.01, 0.1, 0.3)),
}
"""Of each form that fills in: strategies and ratios."""


def attack_of(model: str, target: Target, steps: int):
    """The optimisation attack on one client, as one pure function."""
    if model == "lenet":
        return iterate(dlg(target, num_steps=steps, memory_size=20))
    return iterate(
        inverting_gradients(target, num_steps=steps, tv=1e-3, schedule="cosine")
    )


def main(argv: Sequence[str]) -> int:
    """Runs one model's study, prints a summary and writes the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench encryption")
    parser.add_argument("--model", choices=MODELS, default="lenet")
    parser.add_argument("--images", type=int, default=8, help="at most, attacked")
    parser.add_argument("--label-images", type=int, default=32)
    parser.add_argument("--steps", type=int, help="instead of the model's own")
    parser.add_argument("--budget", type=float, default=480, help="seconds of attacks")
    parser.add_argument("--only", nargs="+", choices=(*STRATEGIES, "output_bias"))
    parser.add_argument("--at", nargs="+", type=float, help="these ratios, with --only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--again", type=Path, help="summarises this result anew")
    args = parser.parse_args(argv)
    if args.again:
        result = json.loads(args.again.read_text(encoding="utf-8"))
        return _told(result, args.json)
    path = Path(os.environ.get("JAXINV_DATA", "")) / "cifar10_subset.npz"
    if not path.exists():
        parser.error("JAXINV_DATA must name the folder of cifar10_subset.npz")
    begun = time.perf_counter()
    data = load_images(path)
    mean, std = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
    spec = Spec(tuple(data.x.shape[1:]), data.num_classes, mean, std)
    name, options = MODELS[args.model]
    target = models.build(name, spec, **options)
    key_params, key_masks, key_attack = jax.random.split(jax.random.key(args.seed), 3)
    params = jax.jit(target.init)(key_params)
    number = max(args.images, args.label_images)
    clients = clients_of(key_masks, target, params, data.x[:number], data.y[:number])
    print(f"masks of {number} clients: {time.perf_counter() - begun:.0f} s", flush=True)
    facts = {
        "command": " ".join(["python -m bench encryption", *argv]),
        "machine": machine(),
        "load_average": os.getloadavg()[0],
        "model": args.model,
        "numbers": int(sum(leaf.size for leaf in jax.tree.leaves(clients.update[0]))),
        "seed": args.seed,
    }
    result: dict[str, Any] = {
        **facts,
        "costs": costs(clients),
        "labels": labels_read(target, params, clients, args.label_images),
    }
    if args.model == "mlp":
        result["closed"] = closed_forms(target, params, clients, args.images)
    else:
        steps = args.steps or STEPS[args.model]
        result["steps"] = steps
        result |= _attacked(args, target, params, clients, steps, key_attack)
    result["seconds"] = time.perf_counter() - begun
    return _told(result, args.json)


def _told(result: dict[str, Any], path: Path | None) -> int:
    """Adds the summary, prints it and writes all."""
    result["summary"] = summary(result)
    print_summary(result)
    if path:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _cases(args: argparse.Namespace, image: int) -> list[dict[str, Any]]:
    cases = [{"strategy": "none", "ratio": 0.0, "form": "masked"}]
    if args.only:
        cases += [
            {"strategy": s, "ratio": r, "form": "masked"}
            for s in args.only
            for r in args.at or RATIOS
        ]
        return [{"image": image, **case} for case in cases]
    for strategy in STRATEGIES:
        for ratio in FEWER if strategy in ("averaged", "per_tensor") else RATIOS:
            cases.append({"strategy": strategy, "ratio": ratio, "form": "masked"})
    for form, (strategies, ratios) in FILLED.items():
        cases += [
            {"strategy": s, "ratio": r, "form": form}
            for s in strategies
            for r in ratios
        ]
    return [{"image": image, **case} for case in cases]


def _attacked(args, target, params, clients, steps, key) -> dict[str, Any]:
    """Rows of the optimisation attack, whole images only."""
    run, chunk = attack_of(args.model, target, steps), CHUNK[args.model]
    alone = jax.tree.map(lambda leaf: leaf[None], params)

    def one(key, label, update, visible):
        known = Knowledge(labels=label[None], visible=visible)
        found = run(key, Observation(alone, update, known, 1, target.spec))
        return found.batch.inputs[0], found.score

    program = jax.jit(jax.vmap(one))
    cases = [case for i in range(args.images) for case in _cases(args, i)]
    per_image = len(_cases(args, 0))
    rows: list[dict[str, Any]] = []
    compiled, spent, compile_s = None, 0.0, 0.0
    for low in range(0, len(cases), chunk):
        if spent > args.budget:
            break
        part = cases[low : low + chunk]
        inputs = [_input(target, params, clients, case, key) for case in part]
        filled = inputs + [inputs[-1]] * (chunk - len(inputs))
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *filled)
        start = time.perf_counter()
        if compiled is None:
            compiled = program.lower(*stacked).compile()
            compile_s = time.perf_counter() - start
            print(f"compiled: {compile_s:.0f} s", flush=True)
            start = time.perf_counter()
        found, scores = jax.block_until_ready(compiled(*stacked))
        spent += time.perf_counter() - start
        pixels = target.spec.denormalise(found)[: len(part)]
        truth = jnp.stack([clients.pixels[case["image"]] for case in part])
        psnr, ssim = metrics.psnr(truth, pixels), metrics.ssim(truth, pixels)
        for i, case in enumerate(part):
            row = {"psnr": float(psnr[i]), "ssim": float(ssim[i])}
            rows.append({**case, **row, "score": float(scores[i])})
        print(f"{low + len(part)} of {len(cases)}: {spent:.0f} s", flush=True)
    whole = len(rows) // per_image
    rows = [row for row in rows if row["image"] < whole]
    removed_shares(target, params, clients, rows)
    return {"images": whole, "compile_s": compile_s, "attack_s": spent, "rows": rows}


def _input(target, params, clients, case, key):
    """Key, label, update and visible of one case."""
    image = case["image"]
    client = clients.one(image)
    mask = mask_of(clients, case["strategy"], image, case["ratio"])
    seen = seen_of(target, params, client, mask)
    if case["form"] != "masked":
        previous = None
        if case["form"] == "previous":
            before = mask_of(
                clients, case["strategy"], image, case["ratio"], earlier=True
            )
            previous = jax.tree.map(
                lambda u, m: np.where(m, 0, u[image])[None], clients.earlier, before
            )
        seen = read_as(seen, case["form"], previous=previous)
        everything = jax.tree.map(lambda u: np.ones(u.shape, bool), seen.update)
        seen = seen.replace(known=Knowledge(visible=everything))  # pyright: ignore
    return (
        jax.random.fold_in(key, image),
        jnp.asarray(client.label),
        jax.tree.map(jnp.asarray, seen.update),
        jax.tree.map(jnp.asarray, seen.known.visible),
    )
