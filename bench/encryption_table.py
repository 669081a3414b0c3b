"""What `bench.encryption` concludes: means, intervals, differences, correlations."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from bench.encryption_masks import KINDS, METRIC_NAMES

Row = dict[str, Any]
RESAMPLES = 2000


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """Of one model's result."""
    found: dict[str, Any] = {}
    if result.get("rows"):
        rows = result["rows"]
        found["psnr"] = by_mask(rows, "psnr")
        found["magnitude minus"] = against_magnitude(rows)
        found["forms"] = against_masked(rows)
        kinds = {kind: f"removed ({kind})" for kind in KINDS}
        found["distance"] = {
            kind: predicted(rows, key)
            for kind, key in (kinds | {"the ratio": "ratio"}).items()
        }
    if result.get("closed"):
        found["closed"] = [
            {
                "strategy": s,
                "ratio": r,
                **{
                    k: float(np.mean([row[k] for row in part]))
                    for k in ("encrypted", "unit_exact", "pixel_exact", "pixels_known")
                },
            }
            for (s, r), part in _grouped(result["closed"], ("strategy", "ratio"))
        ]
    return found


def by_mask(rows: list[Row], value: str) -> list[Row]:
    """Mean over images and its 95 % interval, of every strategy, ratio and form."""
    found = []
    for (strategy, ratio, form), part in _grouped(rows, ("strategy", "ratio", "form")):
        mean, low, high = bootstrap(np.array([[row[value]] for row in part]))
        entry = {"strategy": strategy, "ratio": ratio, "form": form}
        found.append({**entry, "mean": mean, "low": low, "high": high, "n": len(part)})
    return found


def against_magnitude(rows: list[Row]) -> list[Row]:
    """PSNR under magnitude minus that under another metric, paired by image and ratio.

    Negative: magnitude protects better.
    """
    found = []
    own = [row for row in rows if row["strategy"] == "magnitude"]
    there = sorted({row["ratio"] for row in own if row["form"] == "masked"})
    names = dict.fromkeys(row["strategy"] for row in rows)
    for name in METRIC_NAMES:
        if name == "magnitude" or name not in names or not there:
            continue
        for label, ratios in (
            ("all", there),
            ("to 10 %", [r for r in there if r <= 0.1]),
            ("from 20 %", [r for r in there if r >= 0.2]),
        ):
            if not ratios:
                continue
            table = _table(rows, "magnitude", ratios) - _table(rows, name, ratios)
            mean, low, high = bootstrap(table)
            entry = {"metric": name, "ratios": label, "mean": mean}
            found.append({**entry, "low": low, "high": high})
    return found


def against_masked(rows: list[Row]) -> list[Row]:
    """PSNR of a form that fills in minus that of masked matching, paired."""
    found = []
    forms = dict.fromkeys(row["form"] for row in rows if row["form"] != "masked")
    for form in forms:
        names = dict.fromkeys(row["strategy"] for row in rows if row["form"] == form)
        for name in names:
            ratios = sorted(
                {r["ratio"] for r in rows if (r["form"], r["strategy"]) == (form, name)}
            )
            table = _table(rows, name, ratios, form) - _table(rows, name, ratios)
            mean, low, high = bootstrap(table)
            entry = {"form": form, "strategy": name, "mean": mean}
            found.append({**entry, "low": low, "high": high})
    return found


def predicted(rows: list[Row], key: str) -> dict[str, float | None]:
    """Rank correlation of an entry of the rows with the PSNR, masked matching.

    Over all masks of an image, and over the metrics at one ratio; the means of what
    each image (and ratio) gives. A good predictor is near -1; None where the entry
    does not vary.
    """
    rows = [row for row in rows if row["form"] == "masked" and row["ratio"] > 0]

    def correlation(part: list[Row]) -> float:
        pair = ([row[key] for row in part], [row["psnr"] for row in part])
        if len(part) < 3 or any(len(set(values)) < 2 for values in pair):
            return np.nan
        return float(spearmanr(*pair).statistic)  # pyright: ignore

    all_masks = [correlation(part) for _, part in _grouped(rows, ("image",))]
    rows = [row for row in rows if row["strategy"] in METRIC_NAMES]
    at_ratio = [correlation(part) for _, part in _grouped(rows, ("image", "ratio"))]
    return {
        "all masks": _mean(all_masks),
        "metrics at one ratio": _mean(at_ratio),
    }


def bootstrap(table: np.ndarray) -> tuple[float, float, float]:
    """Mean of `[images, ...]` and its 95 % interval, images drawn with replacement."""
    each = table.reshape(len(table), -1).mean(1)
    draws = np.random.default_rng(0).integers(0, len(each), (RESAMPLES, len(each)))
    low, high = np.quantile(each[draws].mean(1), (0.025, 0.975))
    return float(each.mean()), float(low), float(high)


def print_summary(result: dict[str, Any]) -> None:
    """The tables, on standard output."""
    console = Console(width=150)
    found = result["summary"]
    if "psnr" in found:
        entries = {
            (e["strategy"], e["form"], e["ratio"]): e["mean"] for e in found["psnr"]
        }
        console.print(_grid("mean PSNR, dB", entries))
        for name in ("magnitude minus", "forms"):
            for e in found[name]:
                words = [
                    str(v) for k, v in e.items() if k not in ("mean", "low", "high")
                ]
                numbers = f"{e['mean']:+.2f} [{e['low']:+.2f}, {e['high']:+.2f}]"
                console.print(name, *words, numbers)
        for kind, e in found["distance"].items():
            console.print("told by", kind, {k: v and round(v, 2) for k, v in e.items()})
    if "closed" in found:
        for name in ("unit_exact", "pixel_exact", "pixels_known"):
            entries = {
                (e["strategy"], "", e["ratio"]): e[name] for e in found["closed"]
            }
            console.print(_grid(name, entries))
    for name in ("bias", "rows", "mask", "bias, zeros"):
        entries = {(e["strategy"], "", e["ratio"]): e[name] for e in result["labels"]}
        console.print(_grid(f"labels right by {name}", entries))
    console.print(f"{result['seconds']:.0f} s, {result.get('images', '')} images")


def _grid(title: str, entries: dict[tuple[str, str, float], float]) -> Table:
    table = Table(title=title)
    ratios = sorted({ratio for *_, ratio in entries})
    for head in ("strategy", "attacker", *(f"{100 * r:g} %" for r in ratios)):
        table.add_column(head, no_wrap=True)
    for strategy, form in dict.fromkeys((s, f) for s, f, _ in entries):
        cells = [entries.get((strategy, form, r)) for r in ratios]
        table.add_row(strategy, form, *("" if c is None else f"{c:.2f}" for c in cells))
    return table


def _table(
    rows: list[Row], strategy: str, ratios: Any, form: str = "masked"
) -> np.ndarray:
    """PSNR `[images, ratios]`."""
    values = {
        (row["image"], row["ratio"]): row["psnr"]
        for row in rows
        if (row["strategy"], row["form"]) == (strategy, form)
    }
    images = sorted({image for image, _ in values})
    return np.array([[values[i, r] for r in ratios] for i in images])


def _mean(values: list[float]) -> float | None:
    """Of what is a number; None where nothing is."""
    there = [v for v in values if np.isfinite(v)]
    return float(np.mean(there)) if there else None


def _grouped(rows: list[Row], keys: tuple[str, ...]):
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[k] for k in keys), []).append(row)
    return groups.items()
