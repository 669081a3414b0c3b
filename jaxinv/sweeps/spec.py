"""What a sweep is asked for: a TOML file, or the same as a dataclass."""

from __future__ import annotations

import itertools
import json
import math
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from jaxinv.errors import InputError, nearest, tamed
from jaxinv.options import check_choice
from jaxinv.sweeps.grid import check_entry, points_of, size
from jaxinv.sweeps.kinds import KINDS, Kind, Point
from jaxinv.sweeps.kinds.base import described, plain

NO_DEFENSE = "none"
"""What the client without a defence is called."""

MOST_POINTS = 100_000
"""A grid beyond this is a slip of the keyboard."""

_SPEC_BYTES = 2**20


@dataclass(frozen=True)
class Sweep:
    """What to sweep: every case under every defence, by every attack, for every seed.

    In a case and in an attack a list where one value is expected is a grid: each entry
    is run. A value that is itself a list stands in another list.

    Attributes:
      cases: each a dict of fields of the audit's configuration, of "name" (for the
        rows), and of "set", options by "target.NAME" of images, "model.NAME" else.
      attacks: each a dict of "name", of what the audit's configuration has of attacks
        ("restarts", "iterations", ...), and of "set", options by "attack.NAME".
      audit: what is swept, a name in `jaxinv.sweeps.kinds.KINDS`.
      defenses: what the client does to its update, each as `jaxinv.defenses.asked`
        reads it, several joined by "+"; "none" is a client without any. Of images; in
        other audits noise and rounding are fields of the case.
      seeds: of parameters and attacks.
      checkpoint_s: seconds after which the state is written, at the next place where
        the host looks; sooner at the end of a batch.
      pictures: whether the rows keep what was recovered, and the truth.
    """

    cases: tuple[Mapping[str, Any], ...]
    attacks: tuple[Mapping[str, Any], ...]
    audit: str = "images"
    defenses: tuple[str, ...] = (NO_DEFENSE,)
    seeds: tuple[int, ...] = (0,)
    checkpoint_s: float = 30.0
    pictures: bool = True
    points: tuple[Point, ...] = field(init=False, repr=False, compare=False)
    """All combinations, made from the rest."""

    def __post_init__(self) -> None:
        check_choice("audit", self.audit, KINDS)
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
        for kind in ("cases", "attacks"):
            for number, entry in enumerate(getattr(self, kind)):
                check_entry(self.kind, f"{kind}[{number}]", entry)
        object.__setattr__(self, "points", tuple(self._points()))

    @property
    def kind(self) -> Kind:
        """What `audit` names."""
        return KINDS[self.audit]

    def settings(self) -> dict[str, Any]:
        """Everything that decides the results, for JSON."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        # How often it is written changes no row.
        del found["checkpoint_s"]
        return plain(found)

    def _points(self) -> Iterator[Point]:
        self._check_lists()
        sizes = [sum(map(size, entries)) for entries in (self.cases, self.attacks)]
        num = math.prod(sizes) * len(self.defenses) * len(self.seeds)
        if num > MOST_POINTS:
            raise InputError(
                f"the sweep has {num:,} points; expected {MOST_POINTS:,} at most"
            )
        seen: set[str] = set()
        for number, case in enumerate(self.cases):
            label = str(case.get("name", f"case {number}"))
            for attack, defense, seed in itertools.product(
                self.attacks, self.defenses, self.seeds
            ):
                asked = "" if defense == NO_DEFENSE else defense
                for config, given in points_of(self.kind, case, attack, asked, seed):
                    name = str(attack["name"])
                    point = Point(label, name, defense, seed, config, given)
                    same = json.dumps(
                        [label, name, defense, described(config)], sort_keys=True
                    )
                    if same in seen:
                        raise InputError(
                            f"{label}, {name}, {defense}: the same point twice, "
                            f"{point.options()}; expected each once"
                        )
                    seen.add(same)
                    yield point

    def _check_lists(self) -> None:
        if any(isinstance(s, bool) or not isinstance(s, int) for s in self.seeds):
            raise InputError(f"seeds is {list(self.seeds)!r}; expected integers")
        if any(not 0 <= s < 2**31 for s in self.seeds):
            raise InputError(f"seeds is {list(self.seeds)!r}; expected 0 to 2^31 - 1")
        if any(not isinstance(d, str) or not d for d in self.defenses):
            raise InputError(f"defenses is {list(self.defenses)!r}; expected names")
        for name in ("seeds", "defenses"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise InputError(f"{name} is {list(values)!r}; one is named twice")
        if not self.kind.defended and self.defenses != (NO_DEFENSE,):
            raise InputError(
                f'defenses is {list(self.defenses)!r}; expected ["none"] where audit '
                f"is {self.audit!r}, whose cases have noise and float16"
            )


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
