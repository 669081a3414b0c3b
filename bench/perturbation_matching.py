"""Clients are trained under every defence, each as strong as matched utility allows."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.perturbation_clients import accuracies
from bench.perturbation_judge import MATCHED, check_matched
from bench.perturbation_setting import Defended, Study
from jaxinv.defenses.learned_perturbation import Perturber
from jaxinv.errors import InputError

RATES = (0.8, 0.95)
"""Of pruning that are tried, until one costs too much."""
STDS = (0.3, 1.0)
"""Of the noise that are tried first; then between the last that is matched and the
first that is not."""
SHARES = (1.0, 0.7, 0.4, 0.2)
"""Of the bound of the game that are tried, until the clients' accuracy is that of the
plain autoencoder's within a point."""


def matched(study: Study, perturber: Perturber) -> dict[str, Defended]:
    """Trains clients under every defence, baselines as strong as utility allows."""
    args, target, split = study.args, study.target, study.split
    keys = jax.random.split(jax.random.key(41), args.seeds)
    sizes = {"steps": args.rounds, "clients": 16}

    def note(name: str, found: Any, strength: float | None) -> dict[str, Any]:
        clean = np.asarray(found.clean, np.float64)
        row = {
            "defence": name,
            "strength": strength,
            "accuracy": float(np.mean(getattr(found, args.utility))),
            "accuracy_clean": float(clean.mean()),
            "accuracy_seeds": clean.tolist(),
            "accuracy_perturbed": float(np.mean(found.perturbed)),
            "accuracy_classes": np.asarray(found.per_class).mean(0).tolist(),
        }
        print({k: row[k] for k in ("defence", "strength", "accuracy")}, flush=True)
        return row

    through = jax.jit(
        lambda one: accuracies(
            target,
            split,
            keys,
            lambda: study.through(one),
            one,
            **sizes,
        )
    )
    blurring = perturber.replace(eps=jnp.zeros(()))  # pyright: ignore
    rows = study.told["defences"]
    rows["autoencoder"] = note("autoencoder", through(blurring), 0.0)
    tried, full = study.told.setdefault("tried", []), perturber
    for share in SHARES:
        perturber = full.replace(eps=full.eps * share)  # pyright: ignore
        tried.append(note("learned", through(perturber), float(perturber.eps)))
        study.done(f"clients of eps {float(perturber.eps):.2g}")
        if tried[-1]["accuracy"] > rows["autoencoder"]["accuracy"] - MATCHED:
            break
    rows["learned"] = tried[-1]
    study.done("clients with a perturber")
    noisy = jax.jit(
        lambda std: accuracies(
            target,
            split,
            keys,
            lambda: study.noisy(std),
            None,
            together=False,
            **sizes,
        )
    )
    rows["none"] = note("none", noisy(jnp.zeros(())), 0.0)
    trials = list(STDS)
    while trials:
        std = trials.pop(0)
        tried.append(note("noise", noisy(jnp.asarray(std)), std))
        if not trials and len([r for r in tried if r["defence"] == "noise"]) < 4:
            trials = between(rows["learned"], tried)
    study.done("clients with noise")
    for rate in RATES:
        cut = jax.jit(
            lambda rate=rate: accuracies(
                target,
                split,
                keys,
                lambda: study.pruned(rate),
                None,
                together=False,
                **sizes,
            )
        )
        tried.append(note("pruning", cut(), rate))
        if tried[-1]["accuracy"] < rows["learned"]["accuracy"] - 0.01:
            break
    study.done("clients with pruning")
    for name in ("noise", "pruning"):
        rows[name] = strongest(
            rows["learned"], [r for r in tried if r["defence"] == name]
        )
    return {
        "none": (study.noisy, jnp.zeros(())),
        "autoencoder": (study.through, blurring),
        "learned": (study.through, perturber),
        "noise": (study.noisy, jnp.asarray(rows["noise"]["strength"])),
        "pruning": (partial(study.pruned, rows["pruning"]["strength"]), None),
    }


def _fits(wanted: dict[str, Any], row: dict[str, Any]) -> bool:
    try:
        check_matched(wanted, row)
    except InputError:
        return row["accuracy"] > wanted["accuracy"]
    return True


def between(wanted: dict[str, Any], rows: list[dict[str, Any]]) -> list[float]:
    """The next strength to try: between what costs too much and what does not."""
    noise = [row for row in rows if row["defence"] == "noise"]
    low = [row["strength"] for row in noise if _fits(wanted, row)]
    high = [row["strength"] for row in noise if not _fits(wanted, row)]
    if not low or not high:
        edge = noise[0]["strength"] / 10 if not low else max(low) * 10
        return [edge]
    return [float(np.sqrt(max(low) * min(high)))] if max(low) < min(high) else []


def strongest(wanted: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The strongest that is matched, else the nearest in accuracy."""
    matched = [r for r in rows if abs(r["accuracy"] - wanted["accuracy"]) < 0.01]
    if matched:
        return max(matched, key=lambda row: row["strength"])
    return min(rows, key=lambda row: abs(row["accuracy"] - wanted["accuracy"]))
