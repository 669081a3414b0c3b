"""The folder of a sweep: one process at a time, one spec for good."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from jaxinv.audits.facts import versions
from jaxinv.errors import InputError

_NAME = "sweep.json"
_MOST_SHOWN = 5


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the folder and holds it against other processes; the system frees it.

    Raises:
      InputError: another process has it.
      OSError: it cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(
            f"out is {str(folder)!r}; another sweep is running there; expected a "
            "folder of its own, or to wait"
        ) from None
    try:
        yield
    finally:
        lock.release()


def claim(folder: Path, settings: dict[str, Any], device: str) -> list[str]:
    """Writes down what the folder is for, or compares with what it was begun for.

    Args:
      folder: that this process holds.
      settings: of `Sweep.settings`, with what else decides the rows.
      device: its kind, as a person would say it.

    Returns:
      What differs and does not change what is asked for, but may change digits: the
      versions, the device. Empty for a new folder.

    Raises:
      InputError: it was begun with another spec; the message shows where they differ.
    """
    path = folder / _NAME
    now = {"settings": settings, "versions": versions(), "device": device}
    now = json.loads(json.dumps(now))
    if not path.exists():
        taken = [n for n in ("rows", "checkpoints") if (folder / n).exists()]
        if taken:
            raise InputError(
                f"out is {str(folder)!r}; it holds {taken[0]!r} and no {_NAME}; "
                "expected a new folder or one of an earlier sweep"
            )
        half = path.with_name(f".{_NAME}")
        half.write_text(json.dumps(now, indent=2) + "\n", encoding="utf-8")
        os.replace(half, path)
        return []
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        lines = difference(before["settings"], now["settings"])
        rest = [difference(before[k], now[k], k) for k in ("versions", "device")]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not what a sweep writes: {error!r}") from None
    if lines:
        more = len(lines) - _MOST_SHOWN
        shown = "; ".join(lines[:_MOST_SHOWN]) + (
            f"; and {more} more" if more > 0 else ""
        )
        raise InputError(
            f"out is {str(folder)!r}, begun with another spec: {shown}; expected the "
            "same spec, or another folder"
        )
    return [line for lines in rest for line in lines]


def difference(old: Any, new: Any, where: str = "") -> list[str]:
    """How two specs differ, a line for each place, such as "seeds: 3 entries, ..."."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for name in dict.fromkeys((*old, *new)):
            path = f"{where}.{name}" if where else str(name)
            if name not in new:
                found.append(f"{path} was {old[name]!r} and is not given now")
            elif name not in old:
                found.append(f"{path} is {new[name]!r} and was not given")
            else:
                found += difference(old[name], new[name], path)
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [
            line for i, (a, b) in pairs for line in difference(a, b, f"{where}[{i}]")
        ]
    return [] if old == new else [f"{where} was {old!r} and is {new!r}"]
