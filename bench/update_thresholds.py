"""From when on an attacker's own evidence is to be believed: thresholds by a record.

    python -m bench update_thresholds bench/results/update-evidence-cpu.json

`bench.update_evidence` made the record: evidence beside the truth. A claim is what
`jaxinv.reports.update.verdict` says without the truth. "Strong" is right where at least
half of the client's images came back recognisably (25 dB and SSIM 0.5), "weak" where at
least one came back in part (15 dB and 0.3), as `jaxinv.reports.images.verdict` rates
them; "weak" is tried on the audits that are not called strong. Thresholds are chosen on
every other client: of those with at most 5 % of wrong claims the ones with the most
right claims; where several have as many, the smallest share, and of its agreements the
smallest. The other clients are held out. "Left out": chosen without any audit of that
setting and then tried on it, for a new model is no draw from those measured.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from jaxinv.reports.images.verdict import rate
from jaxinv.reports.update.verdict import AGREE, EXPLAINS

WRONG = 0.05
"""Most claims that may be wrong."""
SHARES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5)
DECIBELS = (15.0, 20.0, 25.0, 30.0, 35.0, 40.0)
CLAIMS = ("strong", "weak")


class Threshold(NamedTuple):
    """When a claim is made; see `EXPLAINS` and `AGREE`."""

    explains: float
    agree: float


class Tried(NamedTuple):
    """How a threshold did."""

    claims: int
    wrong: int
    missed: int
    """Audits without the claim in which it would have been right."""

    def share(self) -> float:
        """Of claims that are wrong; 0 where there is none."""
        return self.wrong / self.claims if self.claims else 0.0


def main(argv: Sequence[str]) -> int:
    """Prints how the code's thresholds do, and which would be chosen."""
    parser = argparse.ArgumentParser(prog="python -m bench update_thresholds")
    parser.add_argument("record", type=Path)
    args = parser.parse_args(argv)
    audits = json.loads(args.record.read_text("utf-8"))["audits"]
    table = Table()
    for title in (
        "claim",
        "leaves",
        "agree, dB",
        "tried on",
        "claims",
        "wrong",
        "missed",
    ):
        table.add_column(title)
    strong = Threshold(EXPLAINS["strong"], AGREE["strong"])
    for claim in CLAIMS:
        if claim == "weak":
            audits = [row for row in audits if not claimed(row, strong)]
        calibrating, held_out = halves(audits)
        chosen = choose(calibrating, claim)
        own = Threshold(EXPLAINS[claim], AGREE[claim])
        for threshold, rows, words in (
            (own, audits, "all, the code's"),
            (own, held_out, "held out, the code's"),
            (chosen, calibrating, "calibration, chosen"),
            (chosen, held_out, "held out, chosen"),
        ):
            _add(table, claim, threshold, words, tried(rows, claim, threshold))
        for setting in dict.fromkeys(row["setting"] for row in audits):
            rest = [row for row in audits if row["setting"] != setting]
            rows = [row for row in audits if row["setting"] == setting]
            other = choose(rest, claim)
            _add(table, claim, other, f"left out: {setting}", tried(rows, claim, other))
    Console(width=110).print(table)
    return 0


def halves(audits: Iterable[dict[str, Any]]) -> tuple[list, list]:
    """Every other client of each setting to choose on, and the rest."""
    audits = list(audits)
    return [[a for a in audits if a["client"] % 2 == part] for part in (0, 1)]  # pyright: ignore


def choose(audits: Sequence[dict[str, Any]], claim: str) -> Threshold:
    """The threshold with the most right claims among those that are rarely wrong."""

    def right(threshold: Threshold) -> int:
        found = tried(audits, claim, threshold)
        return found.claims - found.wrong if found.share() <= WRONG else -1

    worth = {
        pair: right(pair)
        for pair in (Threshold(*p) for p in itertools.product(SHARES, DECIBELS))
    }
    best = [pair for pair in worth if worth[pair] == max(worth.values())]
    return min(best)


def tried(audits: Iterable[dict[str, Any]], claim: str, threshold: Threshold) -> Tried:
    """A threshold on audits whose truth is known."""
    claims = wrong = missed = 0
    for audit in audits:
        made, true = claimed(audit, threshold), holds(audit, claim)
        claims += made
        wrong += made and not true
        missed += true and not made
    return Tried(claims, wrong, missed)


def claimed(audit: dict[str, Any], threshold: Threshold) -> bool:
    """Whether the evidence alone makes the claim."""
    own, control = audit["evidence"], audit["control"]
    most = threshold.explains * min(own["unexplained_grey"], control["unexplained"])
    return own["unexplained"] <= most and own["agreement"] >= threshold.agree


def holds(audit: dict[str, Any], claim: str) -> bool:
    """Whether the claim is true."""
    pairs = zip(audit["psnr"], audit["ssim"], strict=True)
    ratings = [rate({"psnr": psnr, "ssim": ssim}) for psnr, ssim in pairs]
    if claim == "weak":
        return any(rating != "nothing" for rating in ratings)
    seen = sum(rating in ("exact", "recognisable") for rating in ratings)
    return 2 * seen >= len(ratings)


def _add(
    table: Table, claim: str, threshold: Threshold, words: str, found: Tried
) -> None:
    wrong = f"{found.wrong} ({100 * found.share():.0f} %)"
    cells = (claim, threshold.explains, threshold.agree, words, found.claims, wrong)
    table.add_row(*map(str, (*cells, found.missed)))
