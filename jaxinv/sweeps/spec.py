"""What a sweep is asked for: a TOML file, or the same as a dataclass."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from jaxinv.attacks import has_loop
from jaxinv.audits.images import AuditConfig
from jaxinv.audits.settings import check_whole
from jaxinv.errors import InputError, nearest, tamed

NO_DEFENSE = "none"
"""What the client without a defence is called."""

MOST_POINTS = 100_000
"""A grid beyond this is a slip of the keyboard."""

_SPEC_BYTES = 2**20
_PLACED = ("attack", "seed", "defense", "halving", "target_options", "attack_options")
_OF_AUDIT = {f.name for f in fields(AuditConfig)}
_OF_CASE = (_OF_AUDIT - {*_PLACED}) | {"label", "set"}
_OF_ATTACK = {"name", "set", "restarts", "iterations", "draws", "withhold", "grant"}
_OF_ATTACK |= {"precision"}
_NOT_SET = {
    "target.spec": "follows from the data",
    "attack.release": "follows from the case and its defence",
    "attack.num_steps": "is called iterations here",
}
_LISTED = {"withhold", "grant"}
"""Fields that are lists themselves."""


@dataclass(frozen=True)
class Sweep:
    """What to sweep: every case under every defence, by every attack, for every seed.

    In a case and in an attack a list where one value is expected is a grid: each entry
    is run. A value that is itself a list stands in another list.

    Attributes:
      cases: each a dict of fields of `AuditConfig`, of "label" (a name for the rows),
        and of "set", options by "target.NAME".
      attacks: each a dict of "name", of "restarts", "iterations", "draws", "withhold",
        "grant" and "precision" as `AuditConfig` has them, and of "set", options by
        "attack.NAME".
      defenses: what the client does to its update, each as `jaxinv.defenses.asked`
        reads it, several joined by "+"; "none" is a client without any.
      seeds: of parameters and attacks.
      checkpoint_s: seconds after which the state is written, at the next place where
        the host looks; at the end of a batch, every two seconds in any case.
      pictures: whether true and recovered images are kept with the rows.
    """

    cases: tuple[Mapping[str, Any], ...]
    attacks: tuple[Mapping[str, Any], ...]
    defenses: tuple[str, ...] = (NO_DEFENSE,)
    seeds: tuple[int, ...] = (0,)
    checkpoint_s: float = 30.0
    pictures: bool = True
    points: tuple[Point, ...] = field(init=False, repr=False, compare=False)
    """All combinations, made from the rest."""

    def __post_init__(self) -> None:
        for name in ("cases", "attacks", "defenses", "seeds"):
            values = getattr(self, name)
            if not isinstance(values, (list, tuple)) or not values:
                raise InputError(f"{name} is {values!r}; expected a list of at least 1")
            object.__setattr__(self, name, tuple(values))
        rate, pictures = self.checkpoint_s, self.pictures
        number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
        if not (number and 0 <= rate < math.inf):
            raise InputError(f"checkpoint_s is {rate!r}; expected seconds, 0 or more")
        if not isinstance(pictures, bool):
            raise InputError(f"pictures is {pictures!r}; expected true or false")
        for kind, known in (("cases", _OF_CASE), ("attacks", _OF_ATTACK)):
            for number, entry in enumerate(getattr(self, kind)):
                _check_entry(f"{kind}[{number}]", entry, known)
        object.__setattr__(self, "points", tuple(self._points()))

    def settings(self) -> dict[str, Any]:
        """Everything that decides the results, for JSON."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        # How often it is written changes no row.
        del found["checkpoint_s"]
        return _plain(found)

    def _points(self) -> Iterator[Point]:
        if any(isinstance(s, bool) or not isinstance(s, int) for s in self.seeds):
            raise InputError(f"seeds is {list(self.seeds)!r}; expected integers")
        if any(not 0 <= s < 2**31 for s in self.seeds):
            raise InputError(f"seeds is {list(self.seeds)!r}; expected 0 to 2^31 - 1")
        if any(not isinstance(d, str) for d in self.defenses):
            raise InputError(f"defenses is {list(self.defenses)!r}; expected names")
        for name in ("seeds", "defenses"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise InputError(f"{name} is {list(values)!r}; one is named twice")
        each = [math.prod(_sizes(c)) for c in self.cases]
        each_attack = [math.prod(_sizes(a)) for a in self.attacks]
        num = sum(each) * sum(each_attack) * len(self.defenses) * len(self.seeds)
        if num > MOST_POINTS:
            raise InputError(
                f"the sweep has {num:,} points; expected {MOST_POINTS:,} at most"
            )
        seen: set[str] = set()
        for number, case in enumerate(self.cases):
            label = str(case.get("label", f"case {number}"))
            for attack, defense, seed in itertools.product(
                self.attacks, self.defenses, self.seeds
            ):
                given = (*case, *attack)
                given = tuple(n for n in given if n not in ("target", "label", "set"))
                for config in _grid(case, attack, defense, seed):
                    point = Point(label, defense, config, given)
                    same = json.dumps([label, described(config)], sort_keys=True)
                    if same in seen:
                        raise InputError(
                            f"{label}, {config.attack}, {defense}: the same point "
                            f"twice, {point.options()}; expected each once"
                        )
                    seen.add(same)
                    yield point


@dataclass(frozen=True)
class Point:
    """One audit of a sweep, all its batches."""

    label: str
    """Of its case."""
    defense: str
    """As the sweep names it."""
    config: AuditConfig
    given: tuple[str, ...]
    """Names of the fields that its case and its attack set."""

    def options(self) -> dict[str, Any]:
        """Everything that was set, by name; what tells points of a grid apart."""
        fields = described(self.config)
        found = {name: fields[name] for name in self.given if name in fields}
        for owner in ("target", "attack"):
            given = fields[f"{owner}_options"]
            found |= {f"{owner}.{name}": value for name, value in given.items()}
        return found


def read_spec(path: str | os.PathLike[str]) -> Sweep:
    """A sweep from a TOML file whose tables are the fields of `Sweep`.

    Raises:
      InputError: it is no TOML, or asks for something unknown or out of range.
      OSError: it cannot be read.
    """
    try:
        return _read(Path(path))
    except InputError as error:
        raise InputError(tamed(error)) from None


def _read(path: Path) -> Sweep:
    if path.stat().st_size > _SPEC_BYTES:
        raise InputError(f"{path}: larger than {_SPEC_BYTES:,} bytes")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no TOML: {error}") from None
    known = [f.name for f in fields(Sweep) if f.init]
    for name in content:
        if name not in known:
            raise InputError(f"{path}: {name!r} is unknown; {nearest(name, known)}")
    for name in ("cases", "attacks"):
        if name not in content:
            raise InputError(f"{path} has no [[{name}]]; expected at least one")
    return Sweep(**content)


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


def _check_entry(where: str, entry: Any, known: set[str]) -> None:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where} is {entry!r}; expected a table")
    for name in entry:
        if name not in known:
            raise InputError(f"{where}: {name!r} is unknown; {nearest(name, known)}")
    owner = "attack" if where.startswith("attacks") else "target"
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
    if owner == "attack" and not isinstance(entry.get("name"), str):
        raise InputError(f"{where}.name is {entry.get('name')!r}; expected an attack")


def _grid(
    case: Mapping[str, Any], attack: Mapping[str, Any], defense: str, seed: int
) -> Iterator[AuditConfig]:
    """Every combination of the lists in a case and an attack."""
    given: dict[str, Any] = {}
    for entry in (case, attack):
        for name, value in entry.items():
            if name == "set":
                given |= dict(value)
            elif name not in ("label", "name"):
                given[name] = value
    if not isinstance(defense, str):
        raise InputError(f"defenses holds {defense!r}; expected names")
    # "1e+3" holds a plus too, and no name begins with a digit.
    chain = () if defense == NO_DEFENSE else tuple(re.split(r"\+(?=[a-z])", defense))
    choices = [_choices(name, value) for name, value in given.items()]
    for values in itertools.product(*choices):
        point = dict(zip(given, values, strict=True))
        options = {
            f"{owner}_options": {
                name.removeprefix(f"{owner}."): point.pop(name)
                for name in [*point]
                if name.startswith(f"{owner}.")
            }
            for owner in ("target", "attack")
        }
        name = str(attack["name"])
        config = AuditConfig(attack=name, seed=seed, defense=chain, **options, **point)
        check_whole(config, {"seed": 0})
        if config.iterations is not None and not has_loop(config.attack):
            raise InputError(
                f"iterations is {config.iterations}; {config.attack} is a closed form "
                "and takes no steps"
            )
        yield config


def _sizes(entry: Mapping[str, Any]) -> list[int]:
    """Of each grid in a case or an attack."""
    given = {**entry, **entry.get("set", {})}
    return [len(_choices(k, v)) for k, v in given.items() if k not in ("set", "label")]


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


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value


def described(config: AuditConfig) -> dict[str, Any]:
    """An audit's fields for JSON."""
    return _plain(asdict(config))
