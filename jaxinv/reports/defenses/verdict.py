"""The verdict on defences: which of them hold, and at what price."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxinv.audits.defenses.config import NONE
from jaxinv.reports.images.verdict import LIMITS, LUCK, luck
from jaxinv.reports.verdict import Verdict, count

AFFORDABLE = 0.02
"""Accuracy that a defence may cost and still be called so, as a share of 1."""


def holds(row: Mapping[str, Any], report: Mapping[str, Any]) -> bool:
    """Whether no attack on a row recovers or singles out what luck does not explain.

    That is: the mean PSNR of each stays below what is recognisable, and no more
    pictures lie closest to their original than guessing would place there in as many
    attempts (Bonferroni).
    """
    n, chance = report["num_examples"], report["chance"]
    unlikely = LUCK / len(row["attempts"])
    for one in row["attempts"]:
        if one["psnr"] is not None and one["psnr"] >= LIMITS["recognisable"][0]:
            return False
        if luck(round((one["identified"] or 0) * n), n, chance) < unlikely:
            return False
    return True


def affordable(row: Mapping[str, Any]) -> bool:
    """Whether training under it loses at most `AFFORDABLE`."""
    return row["accuracy_loss"] is not None and row["accuracy_loss"] <= AFFORDABLE


def judge(report: Mapping[str, Any]) -> Verdict:
    """The verdict on a comparison, by `holds` and `affordable`."""
    rows = [row for row in report["rows"] if row["defense"] != NONE]
    plain = next((r for r in report["rows"] if r["defense"] == NONE), None)
    if not rows:
        headline = "No defence was finished; there is nothing to judge."
        return Verdict("none", headline, ())
    details = list(_details(report, plain, rows))
    if plain is not None and holds(plain, report):
        headline = (
            "These attacks recover little even without a defence; they cannot tell "
            "good defences from bad ones."
        )
        return Verdict("none", headline, tuple(details))
    good = [row["defense"] for row in rows if holds(row, report) and affordable(row)]
    dear = [
        row["defense"] for row in rows if holds(row, report) and not affordable(row)
    ]
    if good:
        verb = "holds" if len(good) == 1 else "hold"
        headline = (
            f"{len(good)} of {count(len(rows), 'defence')} {verb} against the "
            f"strongest of these attacks and {verb.replace('hold', 'cost')} at most "
            f"{100 * AFFORDABLE:.0f} points of accuracy: {', '.join(good)}."
        )
        return Verdict("nothing", headline, tuple(details))
    if dear:
        headline = (
            f"Every defence that holds against these attacks costs more than "
            f"{100 * AFFORDABLE:.0f} points of accuracy: {', '.join(dear)}."
        )
        return Verdict("traces", headline, tuple(details))
    headline = f"None of {count(len(rows), 'defence')} holds against these attacks."
    return Verdict("exact", headline, tuple(details))


def _details(report, plain, rows):
    if report["interrupted"]:
        yield "The comparison was stopped early: defences not finished are missing."
    if plain is not None and plain["strongest"]["psnr"] is not None:
        yield (
            f"Without a defence the strongest attack reaches "
            f"{plain['strongest']['psnr']:.1f} dB, and the model an accuracy of "
            f"{100 * plain['accuracy']:.1f} %."
        )
    fooled = []
    for row in rows:
        by = {name: [] for name in ("blind", "adaptive")}
        for one in row["attempts"]:
            if one["psnr"] is not None:
                by[one["attacker"]].append(one["psnr"])
        if (
            by["blind"]
            and by["adaptive"]
            and max(by["adaptive"]) > max(by["blind"]) + 3
        ):
            fooled.append(row["defense"])
    if fooled:
        yield (
            "Judged by an attacker who does not know of it, protection is overstated "
            f"by 3 dB or more for {', '.join(fooled)}."
        )
