"""What an audit of a federation wrote down: an entry for each client and round."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from jaxinv.attacks.base import Status
from jaxinv.audits.facts import number
from jaxinv.flower.audit import Attempt
from jaxinv.flower.judge import Judgement

FAILED = "FAILED"
"""The audit itself failed; `reason` says why."""
NOT_SENT = "NOT_SENT"
"""The client returned an error, so there was nothing to attack."""


class Entry(NamedTuple):
    """One client in one round. Holds no pictures: what was recovered is not kept."""

    round: int
    """From 1; 0 where the message does not say."""
    node: int
    """Flower's number of the client."""
    status: str
    """A name of `jaxinv.Status`, `FAILED` or `NOT_SENT`."""
    score: float = math.nan
    """The attacker's own, lower is better; its unit is the attack's."""
    num_examples: int = 0
    """That were attacked."""
    seconds: float = 0.0
    """What the audit cost, compiling included."""
    compile_s: float = 0.0
    """Of these."""
    psnr: list[float] | None = None
    """`[N]` dB, where the truth was at hand."""
    ssim: list[float] | None = None
    """`[N]`, likewise; see `Judgement`."""
    identified: float | None = None
    """See `Judgement`, where the truth was at hand."""
    chance: float | None = None
    """See `Judgement`, likewise."""
    refused: bool = False
    """Whether the client kept its update to itself."""
    reason: str = ""
    """Why it failed, was refused or not sent."""

    def worst(self) -> float:
        """The highest PSNR of an example, dB; NaN where none was judged."""
        values = [value for value in self.psnr or [] if not math.isnan(value)]
        return max(values, default=math.nan)

    def verdict(self) -> str | None:
        """What the example recovered best can be called, a key of `RATINGS`.

        None where no truth was at hand: a score is no verdict.
        """
        # Here since what draws pages takes long to import, and a client draws none.
        from jaxinv.reports.images.verdict import RATINGS, rate

        if self.psnr is None or self.ssim is None:
            return None
        examples = zip(map(number, self.psnr), map(number, self.ssim), strict=True)
        rated = {rate({"psnr": psnr, "ssim": ssim}) for psnr, ssim in examples}
        return next(name for name in RATINGS if name in rated)


def attempted(
    server_round: int,
    node: int,
    attempt: Attempt,
    seconds: float,
    judgement: Judgement | None = None,
) -> Entry:
    """The entry of an attack that came to its end."""
    found = attempt.found
    return Entry(
        server_round,
        node,
        Status(int(np.asarray(found.status))).name,
        float(found.score),
        attempt.num_examples,
        seconds,
        attempt.compile_s,
        *(judgement or (None, None, None, None)),
    )


def reason_of(error: BaseException) -> str:
    """An exception as one line."""
    text = one_line(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def one_line(text: str | None) -> str:
    """What somebody else wrote, short enough for a log."""
    return " ".join((text or "").split())[:500]


def row_of(entry: Entry) -> dict[str, Any]:
    """An entry for JSON."""
    # Flower's numbers are wider than a JSON reader's floats, and JSON has no NaN.
    row: dict[str, Any] = entry._asdict() | {"node": str(entry.node)}
    for name in ("score", "identified", "chance"):
        row[name] = _finite(row[name])
    for name in ("psnr", "ssim"):
        row[name] = row[name] and [_finite(value) for value in row[name]]
    return row


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
