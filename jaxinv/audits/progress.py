"""How far an audit has come, as it tells whoever watches."""

from __future__ import annotations

from typing import NamedTuple


class Progress(NamedTuple):
    """Where an audit stands."""

    part: int
    """Index of the part under attack: a batch of images, or a user."""
    num_parts: int
    """Parts in all."""
    step: int
    """Steps taken on this part."""
    num_steps: int
    """Steps for each part; 0 for a closed form."""
    score: float
    """The attacker's score, of the best start so far."""
    phase: str
    """"compile", "run", or "train" where a model is trained under a defence."""
    unit: str = "batch"
    """What a part is called."""

    def steps(self) -> tuple[int, int]:
        """Steps done and steps in all; a closed form counts as one step."""
        steps = max(1, self.num_steps)
        return self.part * steps + min(self.step, steps), self.num_parts * steps
