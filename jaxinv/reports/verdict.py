"""What every verdict is: a judgement on one run of one attack, no proof of safety."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """What an audit means, in plain language."""

    level: str
    """How bad it is, which the page shows as a colour: "exact", "recognisable",
    "traces", "identified", "nothing", or "none" where nothing could be judged."""
    headline: str
    """One sentence."""
    details: tuple[str, ...]
    """Sentences that qualify it."""


def were(n: int) -> str:
    """`was` or `were`."""
    return "was" if n == 1 else "were"


def count(n: int, what: str) -> str:
    """`1 image`, `2 images`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
