"""How far a sweep is: for whoever watches it, and for its checkpoints."""

from __future__ import annotations

from typing import NamedTuple


class SweepProgress(NamedTuple):
    """How far a sweep has come; of the kind of `jaxinv.audits.progress.Progress`."""

    part: int
    """Jobs that have ended."""
    num_parts: int
    """Jobs in all."""
    done: int
    """Steps of all starts so far; a closed form counts one."""
    total: int
    score: float
    """The best of the batch under way."""
    phase: str
    """"compile" or "run"."""
    unit: str = "job"

    def steps(self) -> tuple[int, int]:
        """Steps done and steps in all."""
        return self.done, self.total


class Position(NamedTuple):
    """Where a sweep is."""

    group: int = 0
    done: int = 0
    """Starts of the group that have ended."""
    steps: int = 0
    """Taken by the batch under way."""
    chunk: int | None = None
    """Starts of a batch."""
    devices: int = 1
    jobs: int = 0
    """Ended, in all."""
    work: int = 0
    """Steps of all starts, in all; without those of the batch under way."""
    seconds: float = 0.0
    """Spent running."""
    compile_s: float = 0.0
    """Spent tracing and compiling."""
    scores: tuple[float | None, ...] = ()
    """Of the ended starts of the job that has others yet to come; None is infinite."""
    statuses: tuple[int, ...] = ()
