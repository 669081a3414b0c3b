"""The verdict on images: what the numbers of an audit mean, in plain language."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxinv.reports.verdict import Verdict, count, were

LIMITS = {"exact": (35.0, 0.5), "recognisable": (25.0, 0.5), "traces": (15.0, 0.3)}
"""PSNR in dB and SSIM from which an image is called so; nothing else holds these.

Both are asked for: a flat guess at a flat image has a high PSNR and no detail. Of 300
CIFAR-10 images, mid-grey passes for traces with 1 %, each image's own mean colour with
4 %, the image under noise at 15 dB with 87 %, which a person mostly recognises.
"""

LUCK = 0.01
"""Identification is above chance where guessing does as well less often than this."""

ORACLE_GAIN = 3.0
"""dB that another restart must be closer to the truth to be worth a word."""

RATINGS = {
    "exact": "practically exact",
    "recognisable": "recognisable",
    "traces": "partly recovered",
    "nothing": "little or nothing",
}
"""What one image can be called, worst leak first."""


def rate(example: Mapping[str, Any]) -> str:
    """The key of `RATINGS` for one example, by its PSNR and SSIM."""
    psnr, ssim = example.get("psnr"), example.get("ssim")
    for name, (least_psnr, least_ssim) in LIMITS.items():
        # Images smaller than SSIM's window have none; PSNR alone decides there.
        alike = ssim is None or ssim >= least_ssim
        if psnr is not None and psnr >= least_psnr and alike:
            return name
    return "nothing"


def judge(report: Mapping[str, Any]) -> Verdict:
    """The verdict on a report, by `LIMITS` and `LUCK`."""
    examples = report["examples"]
    n = len(examples)
    if not n:
        return Verdict("none", "No image was finished; there is nothing to judge.", ())
    ratings = [rate(example) for example in examples]
    exact = ratings.count("exact")
    seen = exact + ratings.count("recognisable")
    traces = ratings.count("traces")
    identified = sum(bool(example.get("identified")) for example in examples)
    chance = report["summary"].get("chance")
    above = chance is not None and luck(identified, n, chance) < LUCK
    images = count(n, "image")
    which = "The image was" if n == 1 else f"{seen} of {images} {were(seen)}"
    if exact == n:
        every = "The image was" if n == 1 else f"All {n} images were"
        level, headline = "exact", f"{every} recovered practically exactly."
    elif seen:
        level = "exact" if exact else "recognisable"
        also = f", {exact} of them practically exactly" if exact else ""
        it = "it" if seen == 1 else "them"
        headline = (
            f"{which} recovered so well that a person would recognise {it}{also}."
        )
    elif traces:
        level = "traces"
        which = "The image was" if n == 1 else f"{traces} of {images} {were(traces)}"
        it = "it shows" if traces == 1 else "they show"
        headline = f"{which} partly recovered; a person may recognise what {it}."
    elif above:
        level = "identified"
        headline = (
            f"No image was recovered recognisably, but {identified} of {n} recovered "
            f"pictures {'singles' if identified == 1 else 'single'} out the original "
            "in the data set."
        )
    else:
        level = "nothing"
        headline = f"This attack recovered nothing usable from {images}."
    return Verdict(level, headline, tuple(_details(report, ratings, identified, above)))


def _details(
    report: Mapping[str, Any], ratings: Sequence[str], identified: int, above: bool
) -> list[str]:
    examples, summary = report["examples"], report["summary"]
    n, found = len(examples), []
    if report.get("interrupted"):
        found.append(
            "The audit was stopped early: pictures that were not finished are the best "
            "up to then, and those not begun are missing."
        )
    if summary.get("chance") is not None:
        luck = ", more than luck explains" if above else ", too few to rule out luck"
        luck = luck if identified else ""
        found.append(
            f"{identified} of {n} recovered pictures lie closer to their original than "
            f"to any other image of the pool{luck}; guessing gets "
            f"{100 * summary['chance']:.2g} %."
        )
    if "labels" in report.get("knowledge", ()):
        found.append("The labels were given to the attacker, not recovered.")
    elif summary.get("label_accuracy") is not None:
        share = 100 * summary["label_accuracy"]
        found.append(f"{share:.0f} % of the labels were recovered.")
    better = sum(
        (e.get("oracle_psnr") or 0.0) >= (e.get("psnr") or 0.0) + ORACLE_GAIN
        and rating in ("traces", "nothing")
        for e, rating in zip(examples, ratings, strict=True)
    )
    if better:
        found.append(
            f"For {count(better, 'image')} another restart came {ORACLE_GAIN:.0f} dB "
            "or more closer than the one the attacker's score chose; a better choice "
            "would leak more."
        )
    if summary.get("diverged_share"):
        share = 100 * summary["diverged_share"]
        found.append(f"{share:.2g} % of the restarts diverged and were set aside.")
    return found


def luck(hits: int, n: int, chance: float) -> float:
    """Probability of at least `hits` of `n` by guessing."""
    return sum(
        math.comb(n, k) * chance**k * (1 - chance) ** (n - k)
        for k in range(hits, n + 1)
    )
