"""`report.json` of someone else's run, which nobody vouches for.

Its size is checked before it is read, and everything that is used of it before it is
used. No name in it leads to a file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from jaxinv.data.bounded import inside
from jaxinv.errors import InputError, nearest
from jaxinv.reports.side_by_side.cases import CASES, Case
from jaxinv.reports.side_by_side.checked import Checked, short

MAX_BYTES = 64 * 2**20
"""Of one file. Molecules take most: 38 of them took 380 kB, so that 6,000 fit."""
MAX_DIGITS = 19
"""Of one whole number: more is no count and no index."""
MAX_RUNS = 16
"""Side by side; more columns than this nobody compares."""

LEVELS = ("exact", "recognisable", "traces", "identified", "nothing", "none")
"""Of `jaxinv.reports.verdict.Verdict`."""


class Run(NamedTuple):
    """One run, checked."""

    label: str
    """A letter that stands for it."""
    folder: Path
    report: dict[str, Any]
    case: Case


def read_reports(folders: Sequence[str | os.PathLike[str]]) -> list[Run]:
    """Reads and checks the records of runs that are to be compared.

    Args:
      folders: of audits, at least two.

    Raises:
      InputError: names the folder, the key and what was expected there.
      OSError: a file could not be read.
    """
    if not 2 <= len(folders) <= MAX_RUNS:
        raise InputError(
            f"DIR is given {len(folders)} times; expected 2 to {MAX_RUNS} folders of "
            "audits"
        )
    seen: set[str] = set()
    runs = []
    for label, name in zip("ABCDEFGHIJKLMNOP", folders, strict=False):
        runs.append(_read(label, Path(name)))
        if (real := os.path.realpath(name)) in seen:
            raise InputError(f"DIR is {str(name)!r} twice; expected different folders")
        seen.add(real)
    return runs


def look_up(record: Any, path: str) -> Any:
    """What stands at a path in a checked record."""
    for key in path.split("."):
        record = record[key]
    return record


def _read(label: str, folder: Path) -> Run:
    try:
        report = parsed(_content(folder))
        name = Checked(report).text("case")
        if name not in CASES:
            raise InputError(f"case is {short(name)}; {nearest(name[:100], CASES)}")
        _check(report, CASES[name])
    except InputError as error:
        raise InputError(f"{folder}: report.json: {error}") from None
    return Run(label, folder, report, CASES[name])


def parsed(content: bytes) -> Any:
    """JSON that nobody vouches for: no NaN, no number without end, no endless depth.

    Raises:
      InputError: it is no JSON, or holds one of these.
    """
    try:
        return json.loads(
            content.decode("utf-8"),
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_whole,
        )
    except RecursionError:
        raise InputError("nested too deeply; expected a report") from None
    except InputError:
        raise
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"not JSON ({reason})") from None


def _content(folder: Path) -> bytes:
    path = folder / "report.json"
    if "\0" in str(path) or not path.is_file() or not inside(folder, path):
        raise InputError("there is none; expected the folder of an audit")
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"more than {MAX_BYTES:,} bytes; expected a report")
    return content


def _no_number(text: str) -> NoReturn:
    raise InputError(f"holds {text}; expected null where there is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InputError(f"holds the number {short(text)}; expected one below 1e308")
    return value


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS + 1:
        raise InputError(
            f"holds a number of {len(text)} digits; expected at most {MAX_DIGITS}"
        )
    return int(text)


def _check(report: Any, case: Case) -> None:
    """Everything that a comparison uses."""
    has = Checked(report)
    for path in ("attack", case.model, "device", "command", "dataset.name"):
        has.text(path)
    for path in ("attack_title", "defense"):
        has.text_or_null(path)
    for path in ("compile_s", "run_s"):
        has.number(path)
    has.flag("interrupted")
    for path in ("knowledge", "verdict.details"):
        has.texts(path)
    has.text("verdict.headline")
    if (level := has.text("verdict.level")) not in LEVELS:
        one = nearest(level[:100], LEVELS)
        raise InputError(f"verdict.level is {short(level)}; {one}")
    for path in ("settings", "versions"):
        has.plain(path)
    for shown in case.numbers:
        has.shown(shown.path, shown.column.kind)
    known = set()
    for place, entry in enumerate(has.rows(case.entries)):
        one = Checked(entry, f"{case.entries}[{place}].")
        key = one.key(case.key)
        if key in known:
            one.refuse(case.key, key, "each of them once")
        known.add(key)
        if case.about is not None:
            one.shown(case.about, "text")
        for shown in case.compared:
            one.shown(shown.path, shown.column.kind)
