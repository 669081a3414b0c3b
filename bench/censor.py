"""What CENSOR keeps, against who knows of it and who does not, and what it costs.

    JAXINV_DATA=... python -m bench censor --json censor.json --picture censor.png

CIFAR-10 images, batch of one, models as initialised. Parts:

    labels    the output bias's uploads: labels by number of uploads and batch size
    exact     the closed form: images of 8x8 through an MLP, from d - 2 to d uploads
    defects   what the released code's two differences send; loss against curvature;
              what a step along the update changes
    attacks   PSNR on the LeNet: undefended, blind, averaged uploads, an attacker who
              averages over draws, and who matches norms and right angles of T uploads
    long      two of them with more steps
    convnet   undefended, blind and from T uploads on the ConvNet
    utility   accuracy where CENSOR is always on, at first, and never
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bench import censor_sent
from bench.censor_cells import Cells, Row
from bench.censor_picture import draw
from bench.machine import machine
from jaxinv import models
from jaxinv.audits.defenses.utility import Training, utility
from jaxinv.data import load_images
from jaxinv.defenses import censor
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec

PARTS = ("attacks", "long", "utility", "labels", "exact", "defects", "convnet")


def main(argv: Sequence[str]) -> int:
    """Runs the parts asked for and writes the JSON after each."""
    parser = argparse.ArgumentParser(prog="python -m bench censor")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--num-examples", type=int, default=16)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--uploads", type=int, nargs="*", default=[1, 10, 100, 300])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args(argv)
    path = Path(os.environ.get("JAXINV_DATA", "")) / "cifar10_subset.npz"
    if not path.exists():
        parser.error("JAXINV_DATA must name the folder of cifar10_subset.npz")
    data = load_images(path)
    inputs, labels = jnp.asarray(data.x, jnp.float32) / 255, jnp.asarray(data.y)
    spec = Spec((32, 32, 3), 10)
    rows: list[Row] = []
    pictures: dict[str, np.ndarray] = {}
    facts = {
        "command": " ".join(["python -m bench censor", *argv]),
        "machine": machine(),
    }

    def keep(row: Row) -> None:
        rows.append(row | {"load_average": os.getloadavg()[0]} | facts)
        short = {k: v for k, v in row.items() if k != "psnr"}
        print(json.dumps(short, default=float), flush=True)
        if args.json:
            text = json.dumps(rows, indent=1, default=float) + "\n"
            args.json.write_text(text, encoding="utf-8")

    few = inputs[: args.num_examples], labels[: args.num_examples]
    for part in args.parts:
        if part == "labels":
            censor_sent.labels(spec, inputs, labels, keep)
        elif part == "exact":
            censor_sent.exact(*few, keep)
        elif part == "defects":
            for name, options in (("lenet", {}), ("mlp", {"widths": (64,)})):
                target = models.build(name, spec, **options)
                censor_sent.defects(name, target, *few, keep)
        elif part == "attacks":
            cells = Cells(models.build("lenet", spec), *few, keep, part)
            pictures = cells.lenet(args.steps, args.uploads)
        elif part == "long":
            Cells(models.build("lenet", spec), *few, keep, part).long(2000, 100)
        elif part == "convnet":
            target = models.build("convnet", spec, width=16)
            Cells(target, *few, keep, part).convnet(args.steps, args.uploads)
        else:
            _utility(spec, inputs, labels, args, keep)
    if args.picture:
        curves = [row for row in rows if row["part"] == "utility"]
        draw(np.asarray(few[0]), pictures, curves, args.picture)
    return 0


def _utility(spec: Spec, inputs, labels, args, keep: Callable[[Row], None]) -> None:
    target = models.build("mlp", spec, widths=(64,))
    plain = gradient(target.loss)
    release = censor(plain, target.loss, trials=4)
    held = len(inputs) * 2 // 3
    train = Batch(inputs[:held], labels[:held])
    test = Batch(inputs[held:], labels[held:])
    for name, part in (
        ("never", 0),
        ("first 10 %", 0.1),
        ("first 25 %", 0.25),
        ("always", 1),
    ):
        training = Training(
            rounds=args.rounds,
            seeds=args.seeds,
            protected_rounds=None if part == 1 else int(part * args.rounds),
        )
        start = time.perf_counter()
        found = utility(
            jax.random.key(0), target, release, train, test, training, plain=plain
        )
        accuracy = np.asarray(found.accuracy, float)
        keep(
            {
                "part": "utility",
                "cell": name,
                "rounds": np.asarray(found.rounds).tolist(),
                "accuracy": accuracy.tolist(),
                "last_mean": accuracy[:, -1].mean(),
                "last_error": accuracy[:, -1].std(ddof=1) / len(accuracy) ** 0.5,
                "seconds": time.perf_counter() - start,
            }
        )
