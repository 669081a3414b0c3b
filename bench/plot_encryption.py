"""Draws what `bench.encryption` measured.

    python -m bench plot_encryption RESULT.json ... --png encryption.png

A row of panels for each attacked model: PSNR by ratio for each metric, what its masks
remove of the distance, and the one against the other.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

COLOURS = {
    "random": "#8a8a8a",
    "magnitude": "#b5422c",
    "product_weight": "#d99a2b",
    "product_sensitivity": "#7a5195",
    "sensitivity": "#2d6485",
    "input_sensitivity": "#3f8f5f",
    "layer_sensitivity": "#c77dac",
}
KINDS = {"l2, guesses": "o-", "l2, near": "s--"}


def main(argv: Sequence[str]) -> int:
    """Reads the files and writes the picture."""
    parser = argparse.ArgumentParser(prog="python -m bench plot_encryption")
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--png", type=Path, required=True)
    args = parser.parse_args(argv)
    results = [json.loads(path.read_text(encoding="utf-8")) for path in args.results]
    results = [result for result in results if result.get("rows")]
    if not results:
        parser.error("results holds no file with attacked images")
    figure = Figure(figsize=(12, 3.6 * len(results)), layout="constrained")
    panels = figure.subplots(len(results), 3, squeeze=False)
    for row, result in zip(panels, results, strict=True):
        _psnr(row[0], result)
        _removed(row[1], result)
        _against(row[2], result)
    figure.savefig(args.png, format="png", dpi=130)
    return 0


def _psnr(axes: Any, result: dict[str, Any]) -> None:
    entries = [e for e in result["summary"]["psnr"] if e["form"] == "masked"]
    for name, colour in COLOURS.items():
        own = sorted(
            (e for e in entries if e["strategy"] == name), key=lambda e: e["ratio"]
        )
        ratios = [100 * e["ratio"] for e in own]
        low, high = [e["low"] for e in own], [e["high"] for e in own]
        axes.plot(
            ratios, [e["mean"] for e in own], "o-", ms=3, color=colour, label=name
        )
        if name in ("random", "magnitude"):
            axes.fill_between(ratios, low, high, color=colour, alpha=0.15, linewidth=0)
    plain = next(e["mean"] for e in entries if e["strategy"] == "none")
    axes.axhline(plain, color="#444444", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set(xlabel="encrypted, %", ylabel="mean PSNR, dB")
    axes.set_title(f"{result['model']}, {result['images']} images", fontsize=10)
    axes.legend(fontsize=7)


def _removed(axes: Any, result: dict[str, Any]) -> None:
    rows = [r for r in result["rows"] if r["form"] == "masked"]
    for name, colour in COLOURS.items():
        for kind, style in KINDS.items():
            own = [r for r in rows if r["strategy"] == name]
            ratios = sorted({r["ratio"] for r in own})
            means = [
                np.mean([r[f"removed ({kind})"] for r in own if r["ratio"] == ratio])
                for ratio in ratios
            ]
            axes.plot([100 * r for r in ratios], means, style, ms=3, color=colour)
    axes.set_xscale("log")
    axes.set(xlabel="encrypted, %", ylabel="share of the squared distance removed")
    axes.set_title("solid: random guesses, dashed: near the truth", fontsize=10)


def _against(axes: Any, result: dict[str, Any]) -> None:
    rows = [r for r in result["rows"] if r["form"] == "masked"]
    for name, colour in COLOURS.items():
        own = [r for r in rows if r["strategy"] == name]
        shares = [r["removed (l2, near)"] for r in own]
        axes.plot(shares, [r["psnr"] for r in own], ".", ms=5, color=colour, alpha=0.7)
    axes.set(xlabel="share removed near the truth", ylabel="PSNR, dB")
    told = result["summary"]["distance"]["l2, near"]["all masks"]
    axes.set_title(f"rank correlation in an image {told:.2f}", fontsize=10)
