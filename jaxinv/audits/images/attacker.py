"""Who attacks: one who does not know the client's defences, or one who does."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from jaxinv.audits.images.judge import Judged
from jaxinv.run import Runner

ABOUT = {
    "blind": "knows of no defence",
    "adaptive": "knows the defence, not what it drew",
}
"""What an attacker is called, and what that means."""


@dataclass
class Attacker:
    """An attacker and what became of its attack."""

    name: str
    """A key of `ABOUT`."""
    granted: tuple[str, ...]
    """What it is told, fields of `jaxinv.observation.Knowledge`."""
    runner: Runner
    """The attack, compiled once for batches of one shape."""
    judged: list[Judged] = field(default_factory=list)
    """One for each batch, with the truth brought in."""

    def psnr(self) -> float:
        """The mean over all examples, dB; below everything where there is none."""
        values = [e["psnr"] for one in self.judged for e in one.examples]
        found = [value for value in values if value is not None]
        return float(np.mean(found)) if found else -np.inf
