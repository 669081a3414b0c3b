"""How a running audit shows itself: a bar in a terminal, else a line now and then."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

if TYPE_CHECKING:
    from jaxinv.audits.progress import Progress
    from jaxinv.sweeps import SweepProgress

SECONDS_BETWEEN_LINES = 15.0
"""Without a terminal: rare enough for a log, often enough to see that it lives."""


@contextmanager
def reporting(console: Console) -> Iterator[Callable[[Progress | SweepProgress], None]]:
    """A function for `run_audit(on_progress=...)` that shows it on the console."""
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("score {task.fields[score]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None, score="-")

        def show(now: Progress | SweepProgress) -> None:
            done, total = now.steps()
            # No share of a compilation is known: the bar pulses then.
            running = now.phase == "run"
            bar.update(
                task,
                description=_what(now),
                total=total if running else None,
                completed=done,
                score=_score(now),
            )

        yield show


def _lines(console: Console) -> Callable[[Progress | SweepProgress], None]:
    start = time.monotonic()
    last, phases = start, set()
    # From where on the speed is taken: compiling comes before, or an earlier run.
    began: tuple[float, int] | None = None

    def show(now: Progress | SweepProgress) -> None:
        nonlocal last, began
        clock = time.monotonic()
        # Parts of one shape compile once; the later calls return at once.
        wait = math.inf if now.phase == "compile" else SECONDS_BETWEEN_LINES
        if now.phase in phases and clock - last < wait:
            return
        phases.add(now.phase)
        last = clock
        line = f"{clock - start:6.0f} s  {_what(now)}"
        if now.phase == "run":
            done, total = now.steps()
            line += f", {100 * done / total:.0f} %, score {_score(now)}"
            if began is None:
                began = clock, done
            elif done > began[1]:
                left = (clock - began[0]) * (total - done) / (done - began[1])
                line += f", {_time(left)} left"
        console.print(Text(line), soft_wrap=True)

    return show


def _what(now: Progress | SweepProgress) -> str:
    if now.phase == "compile":
        return "compiling"
    training = "training, " if now.phase == "train" else ""
    at = min(now.part + 1, now.num_parts)
    return f"{training}{now.unit} {at} of {now.num_parts}"


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"


def _score(now: Progress | SweepProgress) -> str:
    return f"{now.score:.4g}" if math.isfinite(now.score) else "-"
