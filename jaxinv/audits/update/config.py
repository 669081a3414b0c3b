"""What an audit of an update can be asked: one dataclass, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jaxinv import attacks
from jaxinv.audits.settings import check_whole, command
from jaxinv.errors import InputError, nearest
from jaxinv.precision import check_precision


@dataclass(frozen=True)
class UpdateConfig:
    """What to audit. Every field is a setting of the command line.

    Attributes:
      model: a name in `jaxinv.models.MODELS`, or `FILE.py:NAME`; see
        `jaxinv.exchange.load_model`.
      params: file of what the server sent; see `jaxinv.exchange.read_tensors`.
      update: file of what came back.
      client: the client's `client.toml`; see `jaxinv.exchange.client_file`.
      torch_model: `FILE.py:NAME`, the model in PyTorch, to compare with.
      other: file of another client's update, for the control; None permutes the
        numbers of this one.
      truth: images and labels of the client's batch, for a judge: a file or folder
        whose first images they are. The attacker never sees it.
      attack: a name in `jaxinv.attacks.ATTACKS`.
      restarts: starts of the attack; closed forms take one.
      iterations: steps of every start; None takes the attack's own number.
      seed: of the attack.
      halving: whether starts that lag behind are dropped on the way.
      precision: of the matrix products; see `jaxinv.precision.PRECISIONS`.
      draws: over how many draws an attacker averages who knows a defence that draws.
      anyway: whether to go on with an update that this client cannot have sent.
      model_options: of the model.
      attack_options: of the attack.
    """

    model: str
    params: str
    update: str
    client: str
    torch_model: str | None = None
    other: str | None = None
    truth: str | None = None
    attack: str = "inverting_gradients"
    restarts: int = 4
    iterations: int | None = None
    seed: int = 0
    halving: bool = False
    precision: str | None = None
    draws: int = 4
    anyway: bool = False
    model_options: dict[str, Any] = field(default_factory=dict)
    attack_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.attack not in attacks.ATTACKS:
            known = nearest(self.attack, attacks.ATTACKS)
            raise InputError(f"attack is {self.attack!r}; {known}")
        check_whole(self, {"restarts": 1, "seed": 0, "draws": 1})
        if self.iterations is not None and self.iterations < 1:
            raise InputError(f"iterations is {self.iterations!r}; expected >= 1")
        check_precision(self.precision)

    def command(self) -> str:
        """The shell command that repeats this audit."""
        always = ("model", "params", "update", "client", "attack", "seed")
        # They have no default to compare with.
        return command("update", self, always=always)
