"""The tables of DEFENSES.md, from files of `python -m bench defenses`.

python -m bench defenses_table bench/results/defenses-convnet-cpu.json
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxinv import metrics
from jaxinv.data import load_images

SHORT = {
    "inverting_gradients": "IG",
    "cosine_lbfgs": "L-BFGS",
    "dlg": "DLG",
    "linear_layer": "closed form",
}


def main(argv: Sequence[str]) -> int:
    """Prints one table; several files of one model are joined, each row once."""
    parser = argparse.ArgumentParser(prog="python -m bench defenses_table")
    parser.add_argument("files", nargs="+", type=Path)
    rows: dict[str, dict[str, Any]] = {}
    for path in parser.parse_args(argv).files:
        for row in json.loads(path.read_text("utf-8"))["rows"]:
            rows.setdefault(row["defense"], row)
    attacks = list(
        dict.fromkeys(a["attack"] for row in rows.values() for a in row["attempts"])
    )
    titles = [f"{SHORT.get(name, name)}: blind, knowing" for name in attacks]
    print("| defence | accuracy |", *(f"{t} |" for t in titles), "best | singled out |")
    print("|---" * (len(attacks) + 4) + "|")
    for name, row in rows.items():
        cells = [_attempts(row, attack) for attack in attacks]
        print(f"| `{name}` | {_percent(row)} |", *(f"{c} |" for c in cells), _best(row))
    if "JAXINV_DATA" in os.environ:
        print(_nothing(Path(os.environ["JAXINV_DATA"]) / "cifar10_subset.npz"))
    return 0


def _nothing(path: Path, attacked: int = 16) -> str:
    """Mean PSNR of pictures that no update was needed for."""
    pixels = load_images(str(path)).x.astype(np.float32) / 255
    truth = pixels[:attacked]
    guesses = {
        "mean of all images": pixels.mean(0, keepdims=True),
        "each image's own mean colour": truth.mean((1, 2), keepdims=True),
    }
    told = []
    for name, guess in guesses.items():
        psnr = metrics.psnr(truth, np.broadcast_to(guess, truth.shape))
        told.append(f"{name} {float(np.mean(psnr)):.1f} dB")
    return ", ".join(told)


def _percent(row: dict[str, Any]) -> str:
    seeds = ", ".join(f"{100 * one:.1f}" for one in row["accuracy_of_seeds"])
    return f"{100 * row['accuracy']:.1f} % ({seeds})"


def _attempts(row: dict[str, Any], attack: str) -> str:
    """PSNR of both attackers; one number where knowing changes nothing."""
    found = {a["attacker"]: a for a in row["attempts"] if a["attack"] == attack}
    order = [found[name] for name in ("blind", "adaptive") if name in found]
    return ", ".join("-" if a["psnr"] is None else f"{a['psnr']:.1f}" for a in order)


def _best(row: dict[str, Any]) -> str:
    """The highest mean PSNR, and the most pictures singled out, each of any attempt."""
    best = row["strongest"]
    told = "-"
    if best["psnr"] is not None:
        low, high = best["psnr_interval"]
        told = f"{best['psnr']:.1f} ({low:.1f} to {high:.1f})"
    most = max(row["attempts"], key=lambda one: one["identified"] or 0)
    share = f"{100 * (most['identified'] or 0):.0f} %"
    by = f", {SHORT.get(most['attack'], most['attack'])}" if most["identified"] else ""
    return f"{told} | {share}{by} |"
