"""Journals of a run, read back: they may come from other machines, or from anyone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from jaxinv.data.bounded import inside
from jaxinv.errors import InputError
from jaxinv.flower.journal import SERVER
from jaxinv.reports.side_by_side.checked import Checked
from jaxinv.reports.side_by_side.reading import parsed

MAX_BYTES = 64 * 2**20
"""Of one file."""
MAX_FILES = 10_000
"""Of one run: a client has one."""
MAX_LINES = 1_000_000
"""Of one run."""

_NAME = re.compile(r"run-(\d{1,20})-(server|node-\d{1,20})\.jsonl")


class Journal(NamedTuple):
    """One file, checked."""

    who: str
    """`SERVER` or "node-N"."""
    facts: dict[str, Any]
    """How this side attacks: attack, settings, knowledge, device, versions."""
    rows: list[dict[str, Any]]
    """`Entry` as `row_of` has it."""


def read_journals(folder: Path, run: int | None = None) -> tuple[int, list[Journal]]:
    """The files of one run, the server's first.

    Args:
      folder: they were written to, or brought to.
      run: Flower's number of it; None takes the one that was written to last.

    Returns:
      The run's number, and its files.

    Raises:
      InputError: there is none, or a file is not what an audit writes; the message
        names it and what was expected.
      OSError: a file could not be read.
    """
    found: dict[int, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = _NAME.fullmatch(path.name)
        if name and path.is_file() and inside(folder, path):
            found.setdefault(int(name[1]), []).append(path)
    if run is None and found:
        run = max(found, key=lambda r: max(p.stat().st_mtime_ns for p in found[r]))
    if run is None or run not in found:
        which = "run-*.jsonl" if run is None else f"run-{run}-*.jsonl"
        raise InputError(
            f"out is {str(folder)!r}; it holds no {which}; expected the folder that "
            "AuditedStrategy or audit_mod wrote to"
        )
    if len(found[run]) > MAX_FILES:
        raise InputError(f"out holds more than {MAX_FILES:,} files of run {run}")
    left, journals = MAX_LINES, []
    for path in found[run]:
        try:
            journals.append(_read(path, left))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        left -= len(journals[-1].rows)
    return run, sorted(journals, key=lambda one: (one.who != SERVER, one.who))


def _read(path: Path, most: int) -> Journal:
    name = _NAME.fullmatch(path.name)
    assert name is not None
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"more than {MAX_BYTES:,} bytes; expected a journal")
    # What stands after the last end of a line was not written to its end.
    lines = content.split(b"\n")[:-1]
    if not lines or len(lines) > most:
        raise InputError(f"{len(lines):,} lines; expected 1 to {most:,}")
    facts: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            value = parsed(line)
            if number == 1:
                facts = _checked_facts(value)
            else:
                rows.append(_checked_row(value))
        except InputError as error:
            raise InputError(f"line {number}: {error}") from None
    return Journal(name[2], facts, rows)


def _checked_facts(value: Any) -> dict[str, Any]:
    has = Checked(value)
    for key in ("attack", "device"):
        has.text(key)
    for key in ("settings", "versions"):
        has.plain(key)
    has.texts("knowledge")
    return value


def _checked_row(value: Any) -> dict[str, Any]:
    has = Checked(value)
    if isinstance(found := has.key("round"), str):
        has.refuse("round", found, "a number")
    for key in ("node", "status", "reason"):
        has.text(key)
    has.flag("refused")
    for key in ("score", "seconds", "compile_s", "num_examples"):
        has.number(key)
    for key in ("identified", "chance"):
        has.number(key)
    has.numbers("psnr", "ssim")
    return value
