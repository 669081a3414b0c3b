"""What the evidence of an update's audit is worth: it beside the truth, many times.

    JAXINV_DATA=/path/to/data python -m bench update_evidence --json evidence.json

`jaxinv audit update` has no truth and says how strong the attacker's own evidence is.
Here the truth is known. Every audit is one simulated client, its update in one
condition, attacked as the command does: the same starts on the update and on the
control (its numbers permuted), weighed by `jaxinv.audits.update.evidence.weigh`. What
is recorded is that evidence beside the true PSNR and SSIM of every image.

Conditions: the update as it is; with Gaussian noise, in standard deviations of each
tensor's own; pruned to its largest tenth, which the attacker is not told; and
"permuted", numbers that come from no data at all, so that every claim on it is wrong.
`bench.update_thresholds` chooses thresholds on this record.
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

from bench.machine import machine
from jaxinv import attacks, metrics, models
from jaxinv.attacks import has_loop
from jaxinv.audits.update.evidence import Evidence, permuted, weigh
from jaxinv.client import simulate
from jaxinv.data import ImageData, load_images
from jaxinv.fedavg import FedAvg
from jaxinv.local_training import LocalTraining
from jaxinv.observation import Observation
from jaxinv.release import gradient
from jaxinv.run import Runner
from jaxinv.target import Batch, Spec

CIFAR = "cifar10_subset.npz"
CONDITIONS = ("right", "noise:0.03", "noise:0.3", "noise:1", "pruned", "permuted")
_DEFAULTS: dict[str, Any] = {"examples": 1, "clients": 8, "restarts": 4}
_DEFAULTS |= {"conditions": CONDITIONS}
SETTINGS: dict[str, dict[str, Any]] = {
    "digits-mlp": {"data": "digits", "model": "mlp", "options": {"widths": (64,)}}
    | {"attack": "inverting_gradients", "steps": 1000},
    "digits-mlp-4": {"data": "digits", "model": "mlp", "options": {"widths": (64,)}}
    | {"attack": "inverting_gradients", "steps": 1000, "examples": 4},
    "digits-mlp-sharp": {"data": "digits", "model": "mlp", "options": {"widths": (64,)}}
    | {"attack": "inverting_gradients", "steps": 1000, "tv": 1e-3},
    "digits-lenet": {"data": "digits", "model": "lenet", "attack": "dlg", "steps": 800},
    "digits-lenet-2": {"data": "digits", "model": "lenet", "attack": "dlg"}
    | {"steps": 800, "examples": 2},
    "digits-lenet-delta": {"data": "digits", "model": "lenet", "steps": 600}
    | {"attack": "cosine_lbfgs", "local_steps": 2},
    "cifar-lenet-short": {"data": CIFAR, "model": "lenet", "attack": "dlg"}
    | {"steps": 150},
    "cifar-lenet-ig": {"data": CIFAR, "model": "lenet", "steps": 300, "clients": 5}
    | {"attack": "inverting_gradients"},
    "cifar-lenet-ig-sharp": {"data": CIFAR, "model": "lenet", "steps": 300, "tv": 1e-3}
    | {"attack": "inverting_gradients", "clients": 6},
    "cifar-lenet": {"data": CIFAR, "model": "lenet", "attack": "dlg"}
    | {"steps": 800, "clients": 6},
    "cifar-lenet-long": {"data": CIFAR, "model": "lenet", "attack": "dlg"}
    | {"steps": 2500, "clients": 4, "conditions": ("right", "noise:0.03")},
    "cifar-convnet": {"data": CIFAR, "model": "convnet", "options": {"width": 8}}
    | {"attack": "inverting_gradients", "steps": 100, "clients": 4, "tv": 0.01}
    | {"conditions": ("right", "noise:0.3", "permuted")},
}
"""By name: data, model, attack. A search that is too short is there on purpose."""
RATE = 0.1
"""Step size of the local training."""


def main(argv: Sequence[str]) -> int:
    """Runs the settings asked for; a setting that the file has already is kept."""
    parser = argparse.ArgumentParser(prog="python -m bench update_evidence")
    parser.add_argument("--settings", nargs="*", choices=SETTINGS, default=[*SETTINGS])
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args(argv)
    rows = []
    if args.json.exists():
        rows = json.loads(args.json.read_text("utf-8"))["audits"]
    for name in args.settings:
        if any(row["setting"] == name for row in rows):
            continue
        rows += audits(name, _DEFAULTS | SETTINGS[name])
        record = {
            "machine": machine(),
            "settings": {n: _DEFAULTS | SETTINGS[n] for n in SETTINGS},
            "audits": rows,
        }
        args.json.write_text(json.dumps(record) + "\n", encoding="utf-8")
        jax.clear_caches()
    return 0


def audits(name: str, setting: dict[str, Any]) -> list[dict[str, Any]]:
    """Every client of a setting in every condition."""
    folder, path = os.environ.get("JAXINV_DATA", "."), setting["data"]
    data = load_images(path if path == "digits" else Path(folder, path))
    channels = data.x.shape[-1]
    spec = Spec(
        tuple(data.x.shape[1:]), data.num_classes, (0.5,) * channels, (0.25,) * channels
    )
    target = models.build(setting["model"], spec, **setting.get("options", {}))
    local = None
    if steps := setting.get("local_steps"):
        local = LocalTraining(RATE, local_steps=steps)
    one = gradient(target.loss)
    release = one if local is None else FedAvg(one.loss, local)
    wanted: dict[str, Any] = {"num_steps": setting["steps"]}
    wanted |= {key: setting[key] for key in ("tv",) if key in setting}
    if local is not None and has_loop(setting["attack"]):
        wanted["release"] = release
    restarts = setting["restarts"]
    runner = Runner(
        attacks.build(setting["attack"], target, **wanted),
        num_restarts=restarts,
        keep=restarts,
    )
    compiled = jax.jit(release)
    rows = []
    for client in range(setting["clients"]):
        # Weights of its own, so that no figure hangs on one draw.
        params = jax.jit(target.init)(jax.random.key(client))
        chosen, batch = _batch(data, spec, client, setting["examples"])
        seen = simulate(
            jax.random.key(client),
            target,
            params,
            batch,
            release=compiled if local is None else release,
            grant=("labels",) if local is None else ("labels", "local_training"),
        )
        for condition in setting["conditions"]:
            began = time.perf_counter()
            changed = _changed(seen, condition, client)
            key = jax.random.key(client)
            own, control = (
                weigh(runner(key, one), compiled, one, spec)
                for one in (changed, permuted(changed, 0))
            )
            rows.append(
                {
                    "setting": name,
                    "client": client,
                    "condition": condition,
                    "evidence": _told(own),
                    "control": _told(control),
                    **_truth(own.pixels, data, chosen),
                    "seconds": round(time.perf_counter() - began, 2),
                }
            )
            print(_line(rows[-1]), flush=True)
    return rows


def _batch(
    data: ImageData, spec: Spec, client: int, num: int
) -> tuple[np.ndarray, Batch]:
    chosen = 100 + np.arange(client * num, (client + 1) * num)
    pixels = jnp.asarray(data.x[chosen], jnp.float32) / 255
    return chosen, Batch(spec.normalise(pixels), jnp.asarray(data.y[chosen]))


def _changed(seen: Observation, condition: str, client: int) -> Observation:
    kind, _, level = condition.partition(":")
    if kind == "right":
        return seen
    if kind == "permuted":
        # Not the permutation of the control.
        return permuted(seen, 1000 + client)
    rng = np.random.default_rng(client)

    def noisy(leaf: Any) -> jax.Array:
        values = np.asarray(leaf)
        noise = float(level) * values.std() * rng.standard_normal(values.shape)
        return jnp.asarray(values + noise, leaf.dtype)

    def pruned(leaf: Any) -> jax.Array:
        size = np.abs(np.asarray(leaf))
        return jnp.where(size >= np.quantile(size, 0.9), leaf, 0)

    change = noisy if kind == "noise" else pruned
    return seen.replace(update=jax.tree.map(change, seen.update))  # pyright: ignore


def _told(evidence: Evidence) -> dict[str, Any]:
    names = ("unexplained", "unexplained_grey", "agreement", "status")
    return {name: evidence.facts()[name] for name in names}


def _truth(pixels: np.ndarray, data: ImageData, chosen: np.ndarray) -> dict[str, Any]:
    """Of every image, in the order of the truth."""
    true = jnp.asarray(data.x[chosen], jnp.float32) / 255
    guess = jnp.asarray(pixels)
    guess = guess[metrics.align(true, guess)]
    found = {"psnr": np.asarray(metrics.psnr(true, guess)).tolist()}
    # Images smaller than the window have no structural similarity.
    none = min(true.shape[1:3]) < 11
    found["ssim"] = (
        [None] * len(chosen) if none else np.asarray(metrics.ssim(true, guess)).tolist()
    )
    return found


def _line(row: dict[str, Any]) -> str:
    own, control = row["evidence"], row["control"]
    return (
        f"{row['setting']:22} {row['client']} {row['condition']:11}"
        f" left {own['unexplained']:.1e} grey {own['unexplained_grey']:.1e}"
        f" control {control['unexplained']:.1e} agree {own['agreement'] or 0:5.1f}"
        f" psnr {np.mean(row['psnr']):5.1f} {row['seconds']} s"
    )
