"""Who attacks: one who does not know the client's defences, or one who does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from jaxinv import attacks, defenses
from jaxinv.audits.images.config import AuditConfig
from jaxinv.audits.images.judge import Judged
from jaxinv.errors import InputError
from jaxinv.release import Release
from jaxinv.run import Runner
from jaxinv.target import Target

ABOUT = {
    "blind": "knows of no defence",
    "adaptive": "knows the defence, not what it drew",
}
"""What an attacker is called, and what that means."""


class Threat(NamedTuple):
    """What one attacker is told, and takes the client to do."""

    name: str
    """A key of `ABOUT`."""
    granted: tuple[str, ...]
    """Fields of `jaxinv.observation.Knowledge`."""
    release: Release | None
    """What it takes the client to do; None is what the attack assumes by itself."""

    def options(self, config: AuditConfig) -> dict[str, Any]:
        """Of the attack, for `jaxinv.attacks.build`.

        Raises:
          InputError: iterations are asked of an attack that takes none.
        """
        options, loop = dict(config.attack_options), attacks.has_loop(config.attack)
        if self.release is not None and loop:
            options["release"] = self.release
        if config.iterations is not None:
            if not loop:
                raise InputError(
                    f"iterations is {config.iterations}; {config.attack} is a closed "
                    "form and takes no steps"
                )
            options["num_steps"] = config.iterations
        return options


def threats(config: AuditConfig, target: Target, release: Release) -> list[Threat]:
    """The blind attacker, and beside it who knows the defences, if that differs.

    Args:
      config: of the audit.
      target: the model.
      release: what the client does before its defences.
    """
    chain, granted = config.chain(), config.granted()
    default = release if config.local_lr is not None else None
    blind = Threat("blind", granted, default)
    if not chain:
        return [blind]
    if defenses.hides(chain):
        granted = (*granted, "visible")
    elif not defenses.matched(chain):
        # In the mean such defences do nothing: who knows them can do no better.
        return [blind]
    known = defenses.build_known(chain, release, target, draws=config.draws)
    if known is release:
        known = default
    elif not attacks.has_loop(config.attack):
        return [blind]
    return [blind, Threat("adaptive", granted, known)]


@dataclass
class Attacker:
    """An attacker and what became of its attack."""

    name: str
    """A key of `ABOUT`."""
    granted: tuple[str, ...]
    """What it is told, fields of `jaxinv.observation.Knowledge`."""
    runner: Runner
    """The attack, compiled once for batches of one shape."""
    judged: list[Judged] = field(default_factory=list)
    """One for each batch, with the truth brought in."""

    def psnr(self) -> float:
        """The mean over all examples, dB; below everything where there is none."""
        values = [e["psnr"] for one in self.judged for e in one.examples]
        found = [value for value in values if value is not None]
        return float(np.mean(found)) if found else -np.inf
