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

MAX_BYTES = 64 * 2**20
"""Of one file; a record of 10,000 graphs takes about half of it."""
MAX_ENTRIES = 10_000
"""Examples, users, graphs or defences of one run."""
MAX_TEXT = 20_000
"""Characters of one text."""
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
        if (real := os.path.realpath(name)) in seen:
            raise InputError(f"DIR is {str(name)!r} twice; expected different folders")
        seen.add(real)
        runs.append(_read(label, Path(name)))
    return runs


def look_up(record: Any, path: str) -> Any:
    """What stands at a path in a checked record."""
    for key in path.split("."):
        record = record[key]
    return record


def _read(label: str, folder: Path) -> Run:
    try:
        report = _parsed(folder)
        name = _Checked(report).text("case")
        if name not in CASES:
            raise InputError(f"case is {_short(name)}; {nearest(name[:100], CASES)}")
        _check(report, CASES[name])
    except InputError as error:
        raise InputError(f"{folder}: report.json: {error}") from None
    return Run(label, folder, report, CASES[name])


def _parsed(folder: Path) -> Any:
    path = folder / "report.json"
    if "\0" in str(path) or not path.is_file() or not inside(folder, path):
        raise InputError("there is none; expected the folder of an audit")
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"more than {MAX_BYTES:,} bytes; expected a report")
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


def _no_number(text: str) -> NoReturn:
    raise InputError(f"holds {text}; expected null where there is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InputError(f"holds the number {_short(text)}; expected one below 1e308")
    return value


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS + 1:
        raise InputError(
            f"holds a number of {len(text)} digits; expected at most {MAX_DIGITS}"
        )
    return int(text)


def _check(report: Any, case: Case) -> None:
    """Everything that a comparison uses."""
    has = _Checked(report)
    for path in ("attack", case.model, "device", "command", "dataset.name"):
        has.text(path)
    for path in ("attack_title", "defense"):
        has.text(path, none=True)
    for path in ("compile_s", "run_s"):
        has.number(path)
    has.flag("interrupted")
    for path in ("knowledge", "verdict.details"):
        has.texts(path)
    has.text("verdict.headline")
    if (level := has.text("verdict.level")) not in LEVELS:
        one = nearest(level[:100], LEVELS)
        raise InputError(f"verdict.level is {_short(level)}; {one}")
    for path in ("settings", "versions"):
        has.plain(path)
    for shown in case.numbers:
        has.shown(shown.path, shown.column.kind)
    known = set()
    for place, entry in enumerate(has.rows(case.entries)):
        one = _Checked(entry, f"{case.entries}[{place}].")
        key = one.key(case.key)
        if key in known:
            one.refuse(case.key, key, "each of them once")
        known.add(key)
        if case.about is not None:
            one.shown(case.about, "text")
        for shown in case.compared:
            one.shown(shown.path, shown.column.kind)


class _Checked:
    """Looks paths of a record up and refuses what is not of the kind asked for."""

    def __init__(self, record: Any, prefix: str = "") -> None:
        self._record, self._prefix = record, prefix

    def refuse(self, path: str, value: Any, expected: str) -> NoReturn:
        name = f"{self._prefix}{path}"
        raise InputError(f"{name} is {_short(value)}; expected {expected}")

    def text(self, path: str, *, none: bool = False) -> str:
        value = self._at(path)
        if not (isinstance(value, str) or (none and value is None)):
            self.refuse(path, value, "a text")
        if value is not None and len(value) > MAX_TEXT:
            self.refuse(path, value, f"at most {MAX_TEXT:,} characters")
        return value

    def texts(self, path: str) -> None:
        value = self._at(path)
        good = isinstance(value, list) and all(isinstance(x, str) for x in value)
        if not good or sum(map(len, value)) > MAX_TEXT:
            self.refuse(path, value, "a list of texts")

    def number(self, path: str) -> None:
        value = self._at(path)
        if isinstance(value, bool) or not isinstance(value, (int, float, type(None))):
            self.refuse(path, value, "a number or null")

    def flag(self, path: str) -> None:
        value = self._at(path)
        if not isinstance(value, bool):
            self.refuse(path, value, "true or false")

    def shown(self, path: str, kind: str) -> None:
        if kind == "number":
            self.number(path)
        elif not isinstance(self._at(path), bool):
            self.text(path, none=True)

    def key(self, path: str) -> int | str:
        value = self._at(path)
        if isinstance(value, str):
            return self.text(path)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self.refuse(path, value, "a text, or a whole number from 0 on")
        return value

    def rows(self, path: str) -> list[Any]:
        value = self._at(path)
        if not isinstance(value, list) or len(value) > MAX_ENTRIES:
            self.refuse(path, value, f"a list of at most {MAX_ENTRIES:,} entries")
        return value

    def plain(self, path: str) -> None:
        """A table of settings: texts, numbers, and short lists of those."""
        value = self._at(path)
        if not isinstance(value, dict) or len(value) > 1000:
            self.refuse(path, value, "a table of at most 1,000 entries")
        for name, entry in value.items():
            if len(name) + len(_spelled(entry)) > MAX_TEXT:
                where = f"{path}.{_short(name)}"
                self.refuse(where, entry, f"at most {MAX_TEXT:,} characters")

    def _at(self, path: str) -> Any:
        value, keys = self._record, path.split(".")
        for i, key in enumerate(keys):
            if not isinstance(value, dict):
                where = ".".join(keys[:i])
                name = f"{self._prefix}{where}".rstrip(".") or "it"
                raise InputError(f"{name} is {_short(value)}; expected a table")
            if key not in value:
                where = ".".join(keys[: i + 1])
                raise InputError(f"{self._prefix}{where} is missing")
            value = value[key]
        return value


def _spelled(value: Any) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        raise InputError("nested too deeply; expected a report") from None


def _short(value: Any) -> str:
    """A value for a message of one line."""
    text = repr(value) if isinstance(value, str) else _spelled(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
