"""What a comparison of defences can be asked: one dataclass, checked when made."""

from __future__ import annotations

import inspect
import re
import shlex
from dataclasses import dataclass, field, fields
from typing import Any

from jaxinv.attacks import ATTACKS, has_loop
from jaxinv.audits.defenses.utility import Training
from jaxinv.audits.images.config import AuditConfig
from jaxinv.data.images import DIGITS
from jaxinv.defenses import asked
from jaxinv.errors import InputError, nearest


def takes(attack: str) -> list[str]:
    """The options of an attack; none of one that does not exist."""
    if attack not in ATTACKS:
        return []
    known = inspect.signature(ATTACKS[attack].make).parameters.values()
    return [p.name for p in known if p.default is not p.empty]


NONE = "none"
"""What the row without a defence is called."""

USUAL = (
    "clipping:norm=1",
    "gaussian_noise:std=0.01",
    "gaussian_noise:std=0.1",
    "pruning:rate=0.9",
    "stochastic_quantisation:bits=2",
    "sign",
    "dp_sgd:clip=1,noise_multiplier=0.5",
    "soteria:rate=0.5",
    "censor",
)
"""What is compared where nothing is named."""


@dataclass(frozen=True)
class CompareConfig:
    """What to compare. Every field is a setting of the command line.

    Attributes:
      defenses: each as `jaxinv.defenses.asked` reads it; several joined by "+" are one
        row and act in that order. The row without any comes first by itself.
      attacks: names in `jaxinv.attacks.ATTACKS`; every one is run by the attacker who
        does not know the defence and by the one who does.
      target: a name in `jaxinv.models.MODELS`.
      data: as in an audit of images; "digits" are the embedded ones. A fifth is held
        out for the accuracy, and the first of the rest are attacked.
      num_examples: examples attacked, for every defence and attack.
      batch_size: examples behind one attacked update.
      restarts: starts of the attack for every batch; closed forms take one.
      iterations: steps of every start; None takes the attack's own number.
      draws: over how many draws an attacker averages who knows a defence that draws.
      size: side to which images are resized; None keeps them.
      normalise: whether pixels are standardised with the data's mean and deviation.
      seed: of everything random.
      withhold: what the attacker is not told though it is by default ("labels").
      training: how the model is trained under every defence.
      target_options: of the model's builder.
      trained_options: likewise, beside those, for the model that is trained; such as a
        norm, where the one that is attacked has fixed statistics and learns little.
      attack_options: of the attacks; each goes to those that have it.
    """

    defenses: tuple[str, ...] = USUAL
    attacks: tuple[str, ...] = ("linear_layer", "inverting_gradients")
    target: str = "mlp"
    data: str | None = DIGITS
    num_examples: int = 8
    batch_size: int = 1
    restarts: int = 1
    iterations: int | None = 300
    draws: int = 4
    size: int | None = None
    normalise: bool = False
    seed: int = 0
    withhold: tuple[str, ...] = ()
    training: Training = field(default_factory=Training)
    target_options: dict[str, Any] = field(default_factory=dict)
    trained_options: dict[str, Any] = field(default_factory=dict)
    attack_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("defenses", "attacks"):
            values = getattr(self, name)
            if not values:
                raise InputError(f"{name} is empty; expected at least one name")
            if len(set(values)) < len(values):
                raise InputError(f"{name} is {', '.join(values)}; one is named twice")
        for option in self.attack_options:
            if not any(option in takes(attack) for attack in self.attacks):
                known = [name for attack in self.attacks for name in takes(attack)]
                raise InputError(
                    f"attack option {option!r} is unknown to "
                    f"{', '.join(self.attacks)}; {nearest(option, known)}"
                )
        for row in self.rows():
            for attack in self.attacks:
                self.audit(row, attack)

    def rows(self) -> list[str]:
        """The rows in order, the one without a defence first."""
        return [NONE, *(row for row in self.defenses if row != NONE)]

    def audit(self, row: str, attack: str, share: int | None = None) -> AuditConfig:
        """One attack on one row.

        Args:
          row: of `rows`.
          attack: of `attacks`.
          share: examples of each client in training, for an epsilon of DP-SGD.

        Raises:
          InputError: something in it is unknown or out of range.
        """
        loop = attack in ATTACKS and has_loop(attack)
        shared = {f.name for f in fields(AuditConfig)} & {f.name for f in fields(self)}
        values = {name: getattr(self, name) for name in shared}
        values |= {"iterations": self.iterations if loop else None, "attack": attack}
        given = {k: v for k, v in self.attack_options.items() if k in takes(attack)}
        values["attack_options"] = given
        # "1e+3" holds a plus too, and no name begins with a digit.
        chain = () if row == NONE else tuple(re.split(r"\+(?=[a-z])", row))
        if share is not None and any(asked(one).name == "dp_sgd" for one in chain):
            values["dp_rounds"] = self.training.rounds
            values["sampling_rate"] = self.training.batch_size / share
        return AuditConfig(**values, defense=chain)

    def command(self) -> str:
        """The shell command that repeats this comparison."""
        words = ["jaxinv", "defenses", "--compare", *self.defenses]
        for f in fields(self):
            value, option = getattr(self, f.name), f"--{f.name.replace('_', '-')}"
            if f.name in ("attacks", "withhold"):
                option = option.removesuffix("s")
                words += [word for one in value for word in (option, one)]
            elif f.name == "training":
                for g in fields(value):
                    entry = getattr(value, g.name)
                    if entry != g.default:
                        words += [f"--train-{g.name.replace('_', '-')}", str(entry)]
            elif f.name.endswith("_options"):
                owner = f.name.removesuffix("_options")
                words += [
                    w for k, v in value.items() for w in ("--set", f"{owner}.{k}={v}")
                ]
            elif isinstance(value, bool):
                words += [option] if value else []
            elif f.name != "defenses" and (value != f.default or f.name == "target"):
                words += [option, str(value)]
        return shlex.join(words)
