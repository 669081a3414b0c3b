"""Who attacks: one who does not know the client's defences, or one who does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxinv import attacks, defenses
from jaxinv.audits.images.judge import Judged
from jaxinv.errors import InputError
from jaxinv.halving import Halving
from jaxinv.release import Release
from jaxinv.run import Runner
from jaxinv.target import Target

# Beyond this much memory only the best reconstructions are kept for the oracle.
_KEPT_BYTES = 64 * 2**20

ABOUT = {
    "blind": "knows of no defence",
    "adaptive": "knows the defence, not what it drew",
}
"""What an attacker is called, and what that means."""


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


class Search(Protocol):
    """What an audit's configuration says of its attack."""

    @property
    def attack(self) -> str:
        """A name in `jaxinv.attacks.ATTACKS`."""
        ...

    @property
    def attack_options(self) -> dict[str, Any]:
        """Of that attack."""
        ...

    @property
    def restarts(self) -> int:
        """Starts of it; closed forms take one."""
        ...

    @property
    def iterations(self) -> int | None:
        """Steps of every start; None takes the attack's own number."""
        ...

    @property
    def batch_size(self) -> int:
        """Examples behind one update."""
        ...

    @property
    def halving(self) -> bool:
        """Whether starts that lag behind are dropped."""
        ...

    @property
    def precision(self) -> str | None:
        """Of the matrix products."""
        ...

    @property
    def draws(self) -> int:
        """Over which an attacker averages who knows a defence that draws."""
        ...

    def chain(self) -> tuple[defenses.Asked, ...]:
        """What the client does to its update, in order."""
        ...

    def granted(self) -> tuple[str, ...]:
        """What the attacker is told."""
        ...


class Threat(NamedTuple):
    """What one attacker is told, and takes the client to do."""

    name: str
    """A key of `ABOUT`."""
    granted: tuple[str, ...]
    """Fields of `jaxinv.observation.Knowledge`."""
    release: Release | None
    """What it takes the client to do; None is what the attack assumes by itself."""

    def options(self, search: Search) -> dict[str, Any]:
        """Of the attack, for `jaxinv.attacks.build`.

        Raises:
          InputError: iterations are asked of an attack that takes none.
        """
        options, loop = dict(search.attack_options), attacks.has_loop(search.attack)
        if self.release is not None and loop:
            options["release"] = self.release
        if search.iterations is not None:
            if not loop:
                raise InputError(
                    f"iterations is {search.iterations}; {search.attack} is a closed "
                    "form and takes no steps"
                )
            options["num_steps"] = search.iterations
        return options


def threats(
    search: Search, target: Target, release: Release, *, local: bool
) -> list[Threat]:
    """The blind attacker, and beside it who knows the defences, if that differs.

    Args:
      search: how they attack.
      target: the model.
      release: what the client does, without its defences.
      local: whether the client trains, so that the release is no single gradient.
    """
    chain, granted = search.chain(), search.granted()
    default = release if local else None
    blind = Threat("blind", granted, default)
    if not chain:
        return [blind]
    if defenses.hides(chain):
        granted = (*granted, "visible")
    elif not defenses.matched(chain):
        # In the mean such defences do nothing: who knows them can do no better.
        return [blind]
    known = defenses.build_known(chain, release, target, draws=search.draws)
    if known is release:
        known = default
    elif not attacks.has_loop(search.attack):
        return [blind]
    return [blind, Threat("adaptive", granted, known)]


def the_attackers(
    search: Search,
    target: Target,
    release: Release,
    compiled: dict[str, Runner],
    *,
    local: bool,
) -> list[Attacker]:
    """Everyone of `threats`, with an attack.

    Args:
      search: how they attack.
      target: the model.
      release: what the client does, without its defences.
      compiled: the blind one's attack, if it was made before; it is filled.
      local: whether the client trains, so that the release is no single gradient.
    """
    found = []
    for threat in threats(search, target, release, local=local):
        if threat.name == "blind" and "blind" in compiled:
            runner = compiled["blind"]
        else:
            runner = _runner(search, target, threat)
        if threat.name == "blind":
            compiled["blind"] = runner
        found.append(Attacker(threat.name, threat.granted, runner))
    return found


def _runner(search: Search, target: Target, threat: Threat) -> Runner:
    """The attack with its restarts, on what it takes the client to do."""
    attack = attacks.build(search.attack, target, **threat.options(search))
    num = search.restarts if attack.num_steps else 1
    each = 4 * search.batch_size * int(np.prod(target.spec.shape))
    keep = int(min(num, max(1, _KEPT_BYTES // each)))
    # One start has nobody to lag behind.
    halving = Halving() if search.halving and num > 1 else None
    return Runner(
        attack,
        num_restarts=num,
        keep=keep,
        halving=halving,
        precision=search.precision,
    )
