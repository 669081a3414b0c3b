"""A record that is looked up with care: each refusal names the key and its value."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from jaxinv.errors import InputError

MAX_ENTRIES = 10_000
"""Examples, users, graphs or defences of one run."""
MAX_TEXT = 20_000
"""Characters of one text."""


class Checked:
    """Looks paths of a record up and refuses what is not of the kind asked for."""

    def __init__(self, record: Any, prefix: str = "") -> None:
        self._record, self._prefix = record, prefix

    def refuse(self, path: str, value: Any, expected: str) -> NoReturn:
        """Says what stands there and what was expected."""
        name = f"{self._prefix}{path}"
        raise InputError(f"{name} is {short(value)}; expected {expected}")

    def text(self, path: str) -> str:
        """The text at a path."""
        value = self._at(path)
        if not isinstance(value, str):
            self.refuse(path, value, "a text")
        if len(value) > MAX_TEXT:
            self.refuse(path, value, f"at most {MAX_TEXT:,} characters")
        return value

    def text_or_null(self, path: str) -> None:
        """A text, or nothing, stands at a path."""
        if self._at(path) is not None:
            self.text(path)

    def texts(self, path: str) -> None:
        """A list of texts stands at a path."""
        value = self._at(path)
        good = isinstance(value, list) and all(isinstance(x, str) for x in value)
        if not good or sum(map(len, value)) > MAX_TEXT:
            self.refuse(path, value, "a list of texts")

    def number(self, path: str) -> None:
        """A number, or nothing, stands at a path."""
        value = self._at(path)
        if isinstance(value, bool) or not isinstance(value, (int, float, type(None))):
            self.refuse(path, value, "a number or null")

    def numbers(self, *paths: str) -> None:
        """Lists of as many numbers, some of which may be missing, or nothing at all."""
        lengths = set()
        for path in paths:
            value = self._at(path)
            lengths.add(None if value is None else len(self.rows(path)))
            for entry in value or ():
                if isinstance(entry, bool) or not isinstance(
                    entry, (int, float, type(None))
                ):
                    self.refuse(path, value, "numbers")
        if len(lengths) > 1:
            raise InputError(f"{self._prefix}{' and '.join(paths)} differ in length")

    def flag(self, path: str) -> None:
        """True or false stands at a path."""
        value = self._at(path)
        if not isinstance(value, bool):
            self.refuse(path, value, "true or false")

    def shown(self, path: str, kind: str) -> None:
        """What a column of this kind can show stands at a path."""
        if kind == "number":
            self.number(path)
        elif not isinstance(self._at(path), bool):
            self.text_or_null(path)

    def key(self, path: str) -> int | str:
        """What tells an entry from others: a text, or a whole number from 0 on."""
        value = self._at(path)
        if isinstance(value, str):
            return self.text(path)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self.refuse(path, value, "a text, or a whole number from 0 on")
        return value

    def rows(self, path: str) -> list[Any]:
        """The list at a path, of at most `MAX_ENTRIES`."""
        value = self._at(path)
        if not isinstance(value, list) or len(value) > MAX_ENTRIES:
            self.refuse(path, value, f"a list of at most {MAX_ENTRIES:,} entries")
        return value

    def plain(self, path: str) -> None:
        """A table of settings, whatever they are, stands at a path."""
        value = self._at(path)
        if not isinstance(value, dict) or len(value) > 1000:
            self.refuse(path, value, "a table of at most 1,000 entries")
        for name, entry in value.items():
            if len(name) + len(_spelled(entry)) > MAX_TEXT:
                where = f"{path}.{short(name)}"
                self.refuse(where, entry, f"at most {MAX_TEXT:,} characters")

    def _at(self, path: str) -> Any:
        value, keys = self._record, path.split(".")
        for i, key in enumerate(keys):
            if not isinstance(value, dict):
                where = ".".join(keys[:i])
                name = f"{self._prefix}{where}".rstrip(".") or "it"
                raise InputError(f"{name} is {short(value)}; expected a table")
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


def short(value: Any) -> str:
    """A value for a message of one line."""
    text = repr(value) if isinstance(value, str) else _spelled(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
