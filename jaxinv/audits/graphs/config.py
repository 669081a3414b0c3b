"""What an audit of graphs can be asked: one dataclass a case, checked when made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from jaxinv.attacks.grain import LIMITS, Limits
from jaxinv.audits.settings import check_whole, command
from jaxinv.errors import InputError, nearest
from jaxinv.graph import TASKS
from jaxinv.local_training import LocalTraining
from jaxinv.models.graph_networks import GRAPH_MODELS
from jaxinv.models.graph_networks.base import ACTIVATIONS
from jaxinv.options import check_choice

_LOWEST = {"seed": 0, "depth": 1, "width": 1, "controls": 0}
_MOST_WIDE = 1_000_000
"""Units of a layer; beyond it a matrix has more entries than an index can say."""

_LOWEST_IF_SET = {"num": 1, "candidates": 1}

# What --set may not say, because an option of its own says it.
_SPELLED = ("depth", "width", "activation")


@dataclass(frozen=True)
class AuditConfig:
    """What the cases have in common. Every field is a setting of the command line.

    Attributes:
      data: a file; None takes what is embedded.
      num: how many graphs are attacked; None for the case's own number.
      seed: of everything random.
      model: a name in `jaxinv.models.graph_networks.GRAPH_MODELS`.
      depth: its layers.
      width: units of each.
      activation: between them, where the model has the choice; None for its own.
      task: one label for the whole graph, or one for every node, in
        `jaxinv.graph.TASKS`.
      local_lr: step size of the client's own training, after which it sends how its
        weights moved; None is a client that sends one gradient.
      local_steps: steps of that training; None takes one.
      noise: on the gradient, as a share of the root mean square of each leaf.
      float16: whether the gradient is rounded to it on its way, after the noise.
      controls: on how many of the graphs the negative control is run.
      candidates: neighbourhoods tested at most in one level of the attack; None for
        the attack's own limit.
      seconds: at most for its search among graphs of one set of nodes; likewise.
      model_options: of the model's builder.
    """

    case: ClassVar[str] = ""
    unit: ClassVar[str] = "graph"

    data: str | None = None
    num: int | None = None
    seed: int = 42
    model: str = "gcn"
    depth: int = 2
    width: int = 300
    activation: str | None = None
    task: str = "graph"
    local_lr: float | None = None
    local_steps: int | None = None
    noise: float = 0.0
    float16: bool = False
    controls: int = 3
    candidates: int | None = None
    seconds: float | None = None
    model_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.model not in GRAPH_MODELS:
            raise InputError(
                f"model is {self.model!r}; {nearest(self.model, GRAPH_MODELS)}"
            )
        check_choice("task", self.task, TASKS)
        if self.activation is not None:
            check_choice("activation", self.activation, ACTIVATIONS)
        self._check_local()
        given = {
            k: v for k, v in _LOWEST_IF_SET.items() if getattr(self, k) is not None
        }
        check_whole(self, _LOWEST | given)
        if self.width > _MOST_WIDE:
            raise InputError(
                f"width is {self.width!r}; expected at most {_MOST_WIDE:,} units"
            )
        if not _is_number(self.noise) or not 0 <= self.noise < math.inf:
            raise InputError(f"noise is {self.noise!r}; expected a share of 0 or more")
        seconds = 1 if self.seconds is None else self.seconds
        if not _is_number(seconds) or not 0 < seconds < math.inf:
            raise InputError(f"seconds is {self.seconds!r}; expected a positive number")
        for option in _SPELLED:
            if option in self.model_options:
                raise InputError(
                    f"option {option} is set in model_options; expected {option}, "
                    "which sets it"
                )

    def _check_local(self) -> None:
        if self.local_lr is None and self.local_steps is not None:
            raise InputError(
                f"local_steps is {self.local_steps!r} and local_lr None; expected "
                "local_lr too, the step size of the local training"
            )
        lr = 1 if self.local_lr is None else self.local_lr
        if not _is_number(lr) or not 0 < lr < math.inf:
            raise InputError(f"local_lr is {lr!r}; expected a positive number")
        try:
            self.local_training()
        except InputError as error:
            raise InputError(f"local training: {error}") from None

    def local_training(self) -> LocalTraining | None:
        """How a client trains; None where it sends one gradient."""
        if self.local_lr is None:
            return None
        return LocalTraining(self.local_lr, self.local_steps)

    def network_options(self) -> dict[str, Any]:
        """Every option of the model's builder."""
        found = {"depth": self.depth, "width": self.width, **self.model_options}
        if self.activation is not None:
            found["activation"] = self.activation
        return found

    def limits(self) -> Limits:
        """Where the attack gives up."""
        asked = {"candidates": self.candidates, "seconds": self.seconds}
        return LIMITS._replace(**{k: v for k, v in asked.items() if v is not None})

    def command(self) -> str:
        """The shell command that repeats this audit."""
        return command(self.case, self, always=("model", "seed"))


@dataclass(frozen=True)
class MoleculesConfig(AuditConfig):
    """An audit of molecules.

    Attributes:
      label: column of a csv that is predicted; None for the known or only one.
      no_chemistry: whether the attacker is not told that the graphs are molecules.
    """

    case: ClassVar[str] = "molecules"
    unit: ClassVar[str] = "molecule"

    label: str | None = None
    no_chemistry: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label is not None and self.data is None:
            raise InputError(
                f"label is {self.label!r}; expected None without data, a csv file"
            )


@dataclass(frozen=True)
class CitationsConfig(AuditConfig):
    """An audit of neighbourhoods of a network of papers, or of friends."""

    case: ClassVar[str] = "citations"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
