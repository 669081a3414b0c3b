"""Rows of `bench.mgradinv` over users: their means, and the table of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from jaxinv.audits.recommender.record import MATCHED

Row = dict[str, Any]

SETTING = ("rounds", "interval", "start")
"""What one run of the bench may vary."""


def values_of(rows: Sequence[Row], name: str) -> np.ndarray:
    """`[rows]` floats, NaN for what a row does not have."""
    return np.array([row.get(name) for row in rows], float)


def mean_and_half_width(values: np.ndarray) -> tuple[float, float]:
    """The mean of what is a number, and half its 95 % interval (NaN for one value)."""
    there = values[np.isfinite(values)]
    if not len(there):
        return np.nan, np.nan
    if len(there) == 1:
        return float(there[0]), np.nan
    return float(there.mean()), float(1.96 * there.std(ddof=1) / len(there) ** 0.5)


def print_rows(rows: Sequence[Row]) -> None:
    """The table, on standard output; F1 scores where there are interactions."""
    columns = "rounds interval start users exact MAE AUC loss matched,wrong ms/user"
    scores = {
        title: name
        for title, name, there in (
            ("F1", "f1", "f1" in rows[0]),
            ("items", "items_f1", rows[0]["all_items"]),
        )
        if there
    }
    table = Table()
    for title in [*columns.split(), *scores]:
        table.add_column(title.replace(",", ", "))
    for setting, group in itertools.groupby(rows, lambda r: [r[k] for k in SETTING]):
        part = list(group)
        whole = values_of(part, "exact") == 1
        loss = values_of(part, "gradient_loss")
        mae, half = mean_and_half_width(values_of(part, "mae"))
        auc, _ = mean_and_half_width(values_of(part, "auc"))
        f1 = [mean_and_half_width(values_of(part, n))[0] for n in scores.values()]
        table.add_row(
            *map(str, setting),
            str(len(part)),
            f"{np.mean(whole):.1%}",
            f"{mae:.3f} ± {half:.3f}",
            f"{auc:.3f}",
            f"{np.nanmedian(loss):.1e}",
            f"{np.mean(~whole & (loss < MATCHED)):.0%}",
            f"{1e3 * values_of(part, 'seconds').mean():.1f}",
            *(f"{score:.3f}" for score in f1),
        )
    Console(width=110 + 9 * len(scores)).print(table)
