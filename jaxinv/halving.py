"""Successive halving: starts that lag behind are dropped on the way.

Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter
optimization", AISTATS 2016, arXiv:1502.07943. It changes what work is done: with three
rungs and half kept at each, 15/32 of the steps. Whether the best start survives depends
on how well an early score tells the last one.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxinv.errors import InputError


@dataclass(frozen=True)
class Halving:
    """When to drop starts, and how many to keep.

    Attributes:
      rungs_at: shares of the steps after which starts are compared by their scores.
      keep: share of the starts that goes on from each rung; at least one does.
    """

    rungs_at: tuple[float, ...] = (0.125, 0.25, 0.5)
    keep: float = 0.5

    def __post_init__(self) -> None:
        if not self.rungs_at or any(not 0 < share < 1 for share in self.rungs_at):
            raise InputError(
                f"rungs_at is {self.rungs_at}; expected shares between 0 and 1"
            )
        if not 0 < self.keep < 1:
            raise InputError(f"keep is {self.keep}; expected a share between 0 and 1")

    def rungs(self, num_steps: int) -> list[int]:
        """Steps at which starts are dropped, in a run of `num_steps`."""
        at = {round(share * num_steps) for share in self.rungs_at}
        return sorted(step for step in at if 0 < step < num_steps)

    def survivors(self, num: int) -> int:
        """How many of `num` starts go on."""
        return max(1, int(num * self.keep))
