"""The rows of `bench.hardening` as a picture.

python -m bench hardening_plot bench/results/hardening-cpu.json hardening.png
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

COLOURS = {
    "uniform": "#2d6485",
    "to each tensor's size": "#5c5a55",
    "learned": "#c0632f",
}


def main(argv: Sequence[str]) -> int:
    """Draws the strongest attack by setting, and the standard deviations."""
    if len(argv) != 2:
        print(
            "usage: python -m bench hardening_plot ROWS.json PICTURE", file=sys.stderr
        )
        return 2
    rows = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(11, 2.2 + 1.3 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 2, squeeze=False)
    for (left, right), row in zip(axes, rows, strict=True):
        for place, (name, attacks) in enumerate(row["psnr"].items()):
            runnable = [v for k, v in attacks.items() if k != "from the truth"]
            best = max(runnable, key=lambda v: v["mean"])
            left.barh(place, best["mean"], color=COLOURS[name])
            left.plot([best["low"], best["high"]], [place] * 2, color="black")
            std = row["std"][name]
            right.plot(std, "o-", color=COLOURS[name], label=name)
        left.set_yticks(range(len(row["psnr"])), list(row["psnr"]))
        left.invert_yaxis()
        left.set_title(row["setting"], loc="left", fontsize=9)
        names = [t.replace("']['", "/").strip("[']") for t in row["tensors"]]
        right.set_yscale("log")
        right.set_xticks(np.arange(len(names)), names, fontsize=6)
    axes[-1, 0].set_xlabel("PSNR of the strongest attack, dB (less is more private)")
    axes[0, 1].set_title("standard deviation by tensor", loc="left", fontsize=9)
    axes[0, 1].legend(fontsize=7)
    figure.savefig(argv[1], dpi=120)
    return 0
