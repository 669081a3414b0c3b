"""Images before and after a defence, and what attacks make of them, as a PNG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np


def picture(rows: Mapping[str, jax.Array], path: Path, columns: int = 8) -> None:
    """One row of images for each entry, its name at the left.

    Args:
      rows: pixels `[M, H, W, C]` in [0, 1], by name.
      path: where to write.
      columns: images of a row, the first ones.

    Raises:
      ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 + 0.8 * columns, 0.82 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for panels, (name, images) in zip(grid, rows.items(), strict=True):
        for i, axes in enumerate(panels):
            axes.set_axis_off()
            if i < len(images):
                pixels = np.clip(np.nan_to_num(np.asarray(images[i]), nan=0.5), 0, 1)
                shown = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
                axes.imshow(shown, cmap="gray", vmin=0, vmax=1)
        panels[0].text(
            -0.15,
            0.5,
            name.replace("_", " "),
            transform=panels[0].transAxes,
            ha="right",
            va="center",
            fontsize=7,
        )
    figure.savefig(path, format="png", dpi=66)
