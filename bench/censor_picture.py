"""The picture of `bench.censor`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def draw(
    true: np.ndarray,
    pictures: dict[str, np.ndarray],
    curves: Sequence[dict[str, Any]],
    path: Path,
    *,
    num: int = 6,
) -> None:
    """Images by attack, and accuracy by round.

    Args:
      true: `[images, H, W, C]` in [0, 1].
      pictures: by cell, shaped so.
      curves: rows of the part `utility`.
      path: of the png.
      num: how many images.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = {"true": true} | {
        name: found
        for name, found in pictures.items()
        if name in ("undefended", "blind", "norms alone")
        or (name.startswith("adaptive") and "read" not in name)
    }
    figure = plt.figure(figsize=(14, 1.1 * len(shown) + 0.4))
    outer = figure.add_gridspec(1, 2, width_ratios=(1, 1.1), wspace=0.15)
    grid = outer[0].subgridspec(len(shown), num, wspace=0.05, hspace=0.05)
    for i, (name, found) in enumerate(shown.items()):
        for j in range(num):
            axis = figure.add_subplot(grid[i, j])
            axis.imshow(np.clip(found[j], 0, 1))
            axis.set(xticks=[], yticks=[])
            if j == 0:
                axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    axis = figure.add_subplot(outer[1])
    for row in curves:
        accuracy = np.asarray(row["accuracy"])
        mean, error = accuracy.mean(0), accuracy.std(0) / len(accuracy) ** 0.5
        line = axis.plot(row["rounds"], mean, label=row["cell"])[0]
        axis.fill_between(
            row["rounds"], mean - error, mean + error, alpha=0.2, color=line.get_color()
        )
    axis.axhline(0.1, color="grey", linestyle=":", label="chance")
    axis.set(xlabel="rounds", ylabel="test accuracy", title="CENSOR on")
    axis.legend()
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)
