"""The folder of a report: whether it can be written, and writing to it."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxinv.errors import InputError
from jaxinv.reports.verdict import Verdict

_PICTURE = re.compile(r"example-\d+\.png|reconstructions\.png")


def check_folder(
    out: str | os.PathLike[str], names: Iterable[str] = ("report.json", "report.html")
) -> Path:
    """The output folder, if a report can be written there; nothing is created yet.

    Args:
      out: the folder.
      names: of the files that will be written to it.

    Raises:
      InputError: it is no folder, or cannot be made or written to.
    """
    folder = Path(out)
    try:
        if not str(out) or "\0" in str(out):
            raise ValueError("no name of a folder")
        for place in dict.fromkeys(map(_there, (folder, folder / "pictures"))):
            # Permission bits do not tell (read-only mounts, root); a file does.
            with tempfile.TemporaryFile(dir=place):
                pass
        for name in names:
            if (folder / name).is_dir():
                raise IsADirectoryError(0, f"{name} in it is a folder")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"out is {str(out)!r}: {reason}; expected a folder to write to"
        ) from error
    return folder


def _there(place: Path) -> Path:
    """The nearest folder that exists."""
    while not (place.exists() or place.is_symlink()):
        place = place.parent
    return place


def fresh_folder(out: str | os.PathLike[str]) -> Path:
    """Makes the folder if it is missing, and removes pictures of an earlier audit.

    Raises:
      OSError: something could not be made or removed.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = folder / "pictures"
    for old in pictures.iterdir() if pictures.is_dir() else ():
        if _PICTURE.fullmatch(old.name):
            old.unlink()
    return folder


def replace_file(path: Path, content: bytes) -> None:
    """Replaces a file whole: a reader never meets half of it.

    Raises:
      OSError: it could not be written; what was there before still is.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        # "x": no file that someone else put there is followed or overwritten.
        with new.open("xb") as stream:
            stream.write(content)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def write_both(folder: Path, report: Mapping[str, Any], page: str) -> Path:
    """Writes `report.json` and `report.html`.

    Args:
      folder: of `fresh_folder`.
      report: made of what `jsonable` leaves.
      page: the HTML.

    Returns:
      The path of `report.html`.
    """
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    replace_file(folder / "report.json", text.encode())
    path = folder / "report.html"
    replace_file(path, page.encode("utf-8", "replace"))
    return path


def write_judged(
    result: Any,
    folder: Path,
    judge: Callable[[Mapping[str, Any]], Verdict],
    render: Callable[[Any, Verdict], str],
) -> Path:
    """Judges a result and writes its report, with the verdict in both files.

    Args:
      result: of an audit; it has a `report`.
      folder: of `fresh_folder`.
      judge: the verdict on a report.
      render: `(result, verdict)`, the page as text.

    Returns:
      The path of `report.html`.
    """
    report = jsonable(result.report)
    verdict = judge(report)
    report["verdict"] = jsonable(verdict._asdict())
    return write_both(folder, report, render(result, verdict))


def jsonable(value: Any) -> Any:
    """The value as JSON can say it: NaN and infinities become null."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(entry) for entry in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
