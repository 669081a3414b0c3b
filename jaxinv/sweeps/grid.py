"""The grids of a sweep: every combination of the lists in a case and an attack."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jaxinv.errors import InputError, nearest
from jaxinv.sweeps.kinds import Kind

MOST_RESTARTS = 1_000_000
"""Of one job; their scores are one value of its row."""

_LISTED = {"withhold", "grant"}
"""Fields that are lists themselves."""

_NOT_SET = {
    "target.spec": "follows from the data",
    "attack.release": "follows from the case and its defence",
    "attack.num_steps": "is called iterations here",
}


def check_entry(kind: Kind, where: str, entry: Any) -> None:
    """Refuses a case or an attack that asks for what there is not.

    Args:
      kind: of the sweep.
      where: "cases[0]", "attacks[2]".
      entry: the table there.

    Raises:
      InputError: names the place and what was expected.
    """
    of_attack = where.startswith("attacks")
    owner = "attack" if of_attack else kind.owner
    known = {"name", *(kind.of_attack if of_attack else kind.of_case)}
    known |= {"set"} if kind.takes_options or not of_attack else set()
    if not isinstance(entry, Mapping):
        raise InputError(f"{where} is {entry!r}; expected a table")
    for name in entry:
        if name not in known:
            raise InputError(f"{where}: {name!r} is unknown; {nearest(name, known)}")
    options = entry.get("set", {})
    if not isinstance(options, Mapping):
        raise InputError(f"{where}.set is {options!r}; expected a table")
    for name in options:
        if not re.fullmatch(rf"{owner}\.[A-Za-z_]\w*", str(name)):
            raise InputError(
                f'{where}.set has {name!r}; expected names such as "{owner}.NAME"'
            )
        if name in _NOT_SET:
            raise InputError(f"{where}.set has {name!r}, which {_NOT_SET[name]}")
    name = entry.get("name", "")
    if of_attack and not (isinstance(name, str) and name):
        raise InputError(f"{where}.name is {name!r}; expected an attack")
    if of_attack and name not in kind.attacks:
        raise InputError(f"{where}.name is {name!r}; {nearest(name, kind.attacks)}")
    if not isinstance(name, str) or not name.isprintable():
        raise InputError(f"{where}.name is {name!r}; expected a line of text")


def points_of(
    kind: Kind,
    case: Mapping[str, Any],
    attack: Mapping[str, Any],
    defense: str,
    seed: int,
) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Every combination of the lists in a case and an attack.

    Args:
      kind: of the sweep.
      case: that `check_entry` lets pass.
      attack: likewise.
      defense: several joined by "+", or nothing.
      seed: of the audit.

    Returns:
      The audit's configuration, and the names of the fields that were set.

    Raises:
      InputError: a value is out of range, or does not go with the others.
    """
    given = _given(case) | _given(attack)
    # "1e+3" holds a plus too, and no name begins with a digit.
    chain = tuple(re.split(r"\+(?=[a-z])", defense)) if defense else ()
    choices = [_choices(name, value) for name, value in given.items()]
    named = tuple(n for n in given if "." not in n and n != "target")
    for values in itertools.product(*choices):
        fields: dict[str, Any] = {}
        for name, value in zip(given, values, strict=True):
            owner, dot, option = name.partition(".")
            if dot:
                fields.setdefault(f"{owner}_options", {})[option] = value
            else:
                fields[name] = value
        restarts = fields.get("restarts")
        if isinstance(restarts, int) and restarts > MOST_RESTARTS:
            raise InputError(
                f"restarts is {restarts}; expected {MOST_RESTARTS:,} at most, or more "
                "seeds"
            )
        yield kind.config(str(attack["name"]), chain, seed, **fields), named


def size(entry: Mapping[str, Any]) -> int:
    """Points of the grid in a case or an attack."""
    return math.prod(len(_choices(k, v)) for k, v in _given(entry).items())


def _given(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a case or an attack, options by "owner.NAME"."""
    own = {k: v for k, v in entry.items() if k not in ("name", "set")}
    return own | dict(entry.get("set", {}))


def _choices(name: str, value: Any) -> list[Any]:
    if isinstance(value, (int, float)) and not abs(value) < 2**63:
        # A NaN is not equal to itself, and so no spec to go on with.
        raise InputError(f"{name} is {str(value)[:40]}; expected a finite number")
    if not isinstance(value, (list, tuple)):
        if name in _LISTED:
            raise InputError(
                f'{name} is {value!r}; expected a list, such as ["labels"]'
            )
        return [value]
    if name in _LISTED and all(isinstance(entry, str) for entry in value):
        return [tuple(value)]
    if not value:
        raise InputError(f"{name} is an empty list; expected at least one value")
    if name in _LISTED:
        if not all(isinstance(v, (list, tuple)) for v in value):
            raise InputError(f"{name} is {value!r}; expected names, or lists of names")
        return [tuple(v) for v in value]
    for entry in value:
        if isinstance(entry, float) and not math.isfinite(entry):
            raise InputError(f"{name} holds {entry}; expected finite numbers")
    return list(value)
