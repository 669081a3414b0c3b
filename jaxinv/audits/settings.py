"""Configurations as their checks, their reports and their command lines need them."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import fields
from typing import Any

from jaxinv.errors import InputError


def check_whole(config: Any, lowest: dict[str, int]) -> None:
    """Refuses fields that are not whole numbers from a least one on.

    Args:
      config: a dataclass.
      lowest: the least value of each field that is checked, by name.

    Raises:
      InputError: names the field and its value.
    """
    for name, low in lowest.items():
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise InputError(f"{name} is {value!r}; expected an integer >= {low}")


def settings(config: Any, **resolved: Any) -> dict[str, Any]:
    """Every field for a report, fields `X_options` as one entry `X.name` for each.

    Args:
      config: a dataclass.
      **resolved: what a default came to, by name of its field.
    """
    found: dict[str, Any] = {}
    for f in fields(config):
        value = getattr(config, f.name)
        if f.name.endswith("_options"):
            prefix = f.name.removesuffix("_options")
            found |= {f"{prefix}.{k}": v for k, v in value.items()}
        else:
            found[f.name] = list(value) if isinstance(value, tuple) else value
    return found | resolved


def command(case: str, config: Any, always: Collection[str]) -> str:
    """The shell command that repeats an audit.

    Args:
      case: its word on the command line.
      config: a dataclass whose fields are named like its options.
      always: fields that are spelled out even where they are at their default.
    """
    words = ["jaxinv", "audit", case]
    for f in fields(config):
        value = getattr(config, f.name)
        default = f.default_factory() if callable(f.default_factory) else f.default
        option = f"--{f.name.replace('_', '-')}"
        if f.name.endswith("_options"):
            owner = f.name.removesuffix("_options")
            for name, entry in value.items():
                words += ["--set", f"{owner}.{name}={entry}"]
        elif isinstance(value, tuple):
            words += [word for entry in value for word in (option, entry)]
        elif isinstance(value, bool):
            words += [option] if value else []
        elif f.name in always or value != default:
            words += [option, str(value)]
    return shlex.join(words)
