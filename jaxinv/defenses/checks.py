"""What defences ask of their arguments."""

from __future__ import annotations

import math
from typing import Any

from jaxinv.errors import InputError
from jaxinv.options import check_choice

SCOPES = ("global", "layer")
"""Of the whole update at once, or of every tensor on its own."""


def check_scope(scope: Any) -> None:
    """Refuses what is not one of `SCOPES`.

    Raises:
      InputError: names the value and the choices.
    """
    check_choice("scope", scope, SCOPES)


def check_strength(name: str, value: Any, *, most: float = math.inf) -> None:
    """Refuses what is not a number from 0 to `most`.

    Raises:
      InputError: names the argument, its value and the range.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= most:
        wanted = "0 or more" if most == math.inf else f"between 0 and {most:g}"
        raise InputError(f"{name} is {value!r}; expected a number {wanted}")


def check_finite(name: str, value: Any) -> None:
    """Refuses what is not a finite number of 0 or more.

    Raises:
      InputError: names the argument and its value.
    """
    check_strength(name, value)
    if math.isinf(value):
        raise InputError(f"{name} is {value!r}; expected a finite number")
