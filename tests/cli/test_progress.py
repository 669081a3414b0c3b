"""How a running audit shows itself."""

import math
import os

from rich.console import Console

from jaxinv.audits.progress import Progress
from jaxinv.cli import progress
from jaxinv.cli.progress import reporting


def test_progress_in_a_terminal():
    with open(os.devnull, "w") as nowhere:
        console = Console(file=nowhere, force_terminal=True, record=True, width=100)
        with reporting(console) as show:
            show(Progress(0, 2, 0, 50, math.inf, "compile"))
            show(Progress(1, 2, 25, 50, 0.5, "run"))
        shown = console.export_text()
    assert "batch 2 of 2" in shown
    assert "score 0.5" in shown


def test_progress_lines_are_rare(capsys):
    with reporting(Console(force_terminal=False, width=40)) as show:
        for batch in range(3):
            for step in range(50):
                # No steps: a closed form.
                show(Progress(batch, 3, step, 0, math.nan, "run"))
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_lines_say_how_long_it_takes(capsys, monkeypatch):
    clock = iter([0.0, 20.0, 40.0, 100.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with reporting(Console(force_terminal=False, width=200)) as show:
        for step in (10, 30, 31):
            show(Progress(0, 1, step, 100, 0.5, "run"))
    first, second, third = capsys.readouterr().out.splitlines()
    assert "left" not in first
    # Twenty steps in twenty seconds, then one in a minute.
    assert "70 s left" in second and "4 min left" in third
