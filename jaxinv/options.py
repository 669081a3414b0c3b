"""Options of models and attacks, checked by name and by value."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxinv.errors import InputError, nearest


def check_options(
    owner: str, make: Callable[..., Any], options: Mapping[str, Any]
) -> None:
    """Refuses options that a maker does not take, or of another kind than its default.

    Args:
      owner: whose options they are, for the message.
      make: its options are its keyword arguments with a default.
      options: by name.

    Raises:
      InputError: an option is unknown (with the nearest ones) or of the wrong kind.
    """
    parameters = inspect.signature(make).parameters.values()
    known = {p.name: p.default for p in parameters if p.default is not p.empty}
    for name, value in options.items():
        if name not in known:
            raise InputError(
                f"option {name!r} is unknown to {owner}; {nearest(name, known)}"
            )
        default = known[name]
        for kind, words in (
            (bool, "true or false"),
            (int, "a whole number"),
            (float, "a number"),
        ):
            # A bool is an int to Python and no number to a person.
            if type(default) is kind and not _is(value, kind):
                raise InputError(
                    f"option {name} of {owner} is {value!r}; expected {words}"
                )


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Refuses a value that is not one of the choices.

    Raises:
      InputError: names the option, its value and the choices.
    """
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} is {value!r}; expected one of {', '.join(choices)}")


def check_positive(name: str, value: Any) -> None:
    """Refuses what is not a positive integer.

    Raises:
      InputError: names the option and its value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is {value!r}; expected a positive integer")


def parsed(text: str) -> Any:
    """The value that a person wrote: a number, a list, true, none, or the text."""
    spelled = {"True": True, "False": False, "None": None}
    if text in spelled:
        return spelled[text]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
