"""How the restarts of an attack went on, for the record of an audit."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxinv.audits.facts import number
from jaxinv.run import Run

RECORDS = 20
"""Numbers of steps told of at most, evenly among those where the host looked."""


def convergence(run: Run) -> dict[str, list[Any]]:
    """Lists of one entry for each number of steps, the last one among them.

    Args:
      run: of any attack; the lists of a closed form are empty.

    Returns:
      "steps" a start had taken; "best", the lowest score; "lower_quartile", "median"
      and "upper_quartile" of the scores; "starts", how many took so many steps, which
      are fewer after a rung of halving or an interrupt; "diverged", how many of them
      had met a NaN or an infinity by then. Those are not in the quartiles, which are
      null where all had. Scores to six digits.
    """
    num = len(run.steps)
    told = np.unique(np.linspace(0, num - 1, min(num, RECORDS)).round().astype(int))
    spread = run.spread
    scores = {
        "best": run.scores,
        "lower_quartile": spread.quartiles[:, 0],
        "median": spread.quartiles[:, 1],
        "upper_quartile": spread.quartiles[:, 2],
    }
    return {
        "steps": run.steps[told].tolist(),
        **{
            name: [number(f"{value:.6g}") for value in values[told]]
            for name, values in scores.items()
        },
        "starts": spread.starts[told].tolist(),
        "diverged": spread.diverged[told].tolist(),
    }
