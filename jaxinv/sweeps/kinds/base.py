"""What every kind of sweep has: points, jobs, and what it says of itself."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import jax

from jaxinv.attacks.base import Attack, Reconstruction
from jaxinv.observation import Observation

COLUMNS = {
    "job": "int64",
    "case": "string",
    "target": "string",
    "data": "string",
    "defense": "string",
    "attack": "string",
    "attacker": "string",
    "options": "string",
    "seed": "int64",
    "index": "int64",
    "status": "string",
}
"""Name and type of the columns that the rows of every kind begin with. "index" is the
example's place in the data, "options" JSON of what the point of the grid set."""

SEARCHED = {
    "restarts": "int64",
    "iterations": "int64",
    "score": "float64",
    "scores": "list<double>",
    "statuses": "list<int32>",
}
"""Columns of what is searched for from several starts: "scores" and "statuses" of all,
"score" of the one that was chosen by it."""


REFUSED = "REFUSED"
"""The status of a row whose client sent nothing that can be attacked, such as an update
that is not finite; nothing is known of it beyond that."""


@dataclass(frozen=True)
class Point:
    """One audit of a sweep, all its clients."""

    label: str
    """Of its case."""
    attack: str
    defense: str
    """As the sweep names it."""
    seed: int
    config: Any
    """Of the audit; a dataclass of its kind."""
    given: tuple[str, ...]
    """Names of the fields that its case and its attack set."""

    def options(self) -> dict[str, Any]:
        """Everything that was set, by name; what tells points of a grid apart."""
        fields = described(self.config)
        found = {name: fields[name] for name in self.given if name in fields}
        for name, given in fields.items():
            if name.endswith("_options"):
                owner = name.removesuffix("_options")
                found |= {f"{owner}.{option}": value for option, value in given.items()}
        return found


class Winner(Protocol):
    """The best start of a job, and what is known of the others."""

    @property
    def found(self) -> Reconstruction:
        """On the host."""
        ...

    @property
    def scores(self) -> Sequence[float]:
        """Of all starts in their order; infinite for one that diverged."""
        ...

    @property
    def statuses(self) -> Sequence[int]:
        """Likewise."""
        ...


@dataclass(frozen=True)
class Job(ABC):
    """One update, attacked once by one attacker with all restarts."""

    number: int
    """Its place in the sweep."""
    point: Point

    def about(self) -> dict[str, Any]:
        """What `COLUMNS` say of all its rows."""
        return {
            "job": self.number,
            "case": self.point.label,
            "defense": self.point.defense,
            "attack": self.point.attack,
            "attacker": "blind",
            "options": json.dumps(self.point.options(), sort_keys=True, default=str),
            "seed": self.point.seed,
        }


class Searched(Job):
    """A job whose starts advance together with those of others."""

    own: ClassVar[tuple[str, ...]] = ("update", "known")
    """Fields of the observation that jobs of one program need not share."""

    @property
    @abstractmethod
    def sent_to(self) -> str:
        """Equal for jobs that share the rest of the observation."""

    @property
    @abstractmethod
    def restarts(self) -> int:
        """Starts, of an attack that takes steps."""

    @property
    @abstractmethod
    def precision(self) -> str | None:
        """Of the matrix products; see `jaxinv.precision`."""

    @property
    @abstractmethod
    def numbers(self) -> Mapping[str, Any]:
        """Options of the attack that a grid may set."""

    @abstractmethod
    def signature(self) -> dict[str, Any]:
        """What decides the program, but for `numbers`; for JSON."""

    @abstractmethod
    def maker(self, without: Sequence[str] = ()) -> Callable[..., Attack]:
        """What makes the attack of the options that it is made without.

        Raises:
          InputError: the attack does not suit, or an option is wrong.
        """

    @abstractmethod
    def observation(self) -> Observation:
        """What the attacker sees; the same whenever it is asked for."""

    @abstractmethod
    def keys(self, restarts: int) -> jax.Array:
        """`[restarts]`, as in an audit of the same settings."""

    @abstractmethod
    def blank(self) -> list[dict[str, Any]]:
        """A row for each example with what is known of it without an attack."""

    @abstractmethod
    def rows(self, winner: Winner, *, pictures: bool) -> list[dict[str, Any]]:
        """Judged: a row for each example, by the kind's columns.

        Args:
          winner: of all its starts.
          pictures: whether the rows hold what was recovered, and the truth.
        """


class Solved(Job):
    """A job that is solved by itself, outside of any shared program."""

    @abstractmethod
    def solve(self, *, pictures: bool) -> list[dict[str, Any]]:
        """Attacked and judged: a row for each example, by the kind's columns."""


class Made:
    """What configurations share, each made once."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __call__(
        self, config: Any, names: Sequence[str], make: Callable[[], Any]
    ) -> Any:
        """What the fields so named decide, made where it is not there."""
        at = decided(config, names)
        if at not in self._made:
            self._made[at] = make()
        return self._made[at]


class Scenes(Protocol):
    """Data, models and clients of a sweep, each made once."""

    def jobs(self, point: Point, numbers: Iterator[int]) -> Iterator[Job]:
        """The jobs of a point, numbered.

        Raises:
          InputError: the point does not fit.
          OSError: its data cannot be read.
        """
        ...

    def fingerprints(self) -> dict[str, str]:
        """Of all data so far, by what they are."""
        ...

    def sizes(self) -> dict[str, int]:
        """Likewise by the name of the data, how many examples they hold."""
        ...


@dataclass(frozen=True)
class Kind:
    """What a sweep of one kind of audit can be asked, and how it is done."""

    unit: str
    """What a row is of."""
    config: Callable[..., Any]
    """`(attack, chain, seed, **fields) -> ` the audit's dataclass, checked."""
    settings: type
    """That dataclass, whose annotations say of which kind each field is."""
    owner: str
    """"target" or "model", before the options of a case."""
    of_case: frozenset[str]
    """Fields that a case may set."""
    of_attack: frozenset[str]
    """Fields that an attack may set."""
    attacks: Mapping[str, Any]
    """By name, each with `title` and `paper`."""
    takes_options: bool
    """Whether attacks have options."""
    defended: bool
    """Whether `defenses` may name any."""
    columns: Mapping[str, str]
    """All columns of its rows, with their types."""
    pictured: tuple[str, ...]
    """Columns of what was recovered and of the truth."""
    scenes: Callable[[], Scenes]
    known: Callable[[Sequence[Point]], list[str]]
    """What every attacker is told beside parameters and updates, in a word each."""
    line: Callable[[Sequence[Mapping[str, Any]], Mapping[str, int]], dict[str, Any]]
    """`(rows, sizes) -> ` what a line of the record says of its rows; sizes of data."""


def starts_of(winner: Winner) -> dict[str, Any]:
    """What the columns of `SEARCHED` say of all starts of a job."""
    return {
        "restarts": len(winner.scores),
        "scores": list(winner.scores),
        "statuses": list(winner.statuses),
    }


def in_transit(config: Any) -> str:
    """What befalls an update on its way, where that is the only defence there is."""
    parts = [f"noise {config.noise:g}"] if config.noise else []
    parts += ["float16"] if config.float16 else []
    return ", ".join(parts) or "none"


def described(config: Any) -> dict[str, Any]:
    """An audit's fields for JSON."""
    return plain(asdict(config))


def decided(config: Any, names: Sequence[str]) -> str:
    """Equal for configurations whose fields so named are equal."""
    found = described(config)
    return json.dumps([[name, found.get(name)] for name in names], default=str)


def plain(value: Any) -> Any:
    """Dicts and lists in place of mappings and tuples."""
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value
