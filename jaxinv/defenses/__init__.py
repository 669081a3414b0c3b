"""Defences, by name. A new one is a file here and a row in `DEFENSES`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxinv.defenses.censor import censor as censor
from jaxinv.defenses.clipping import clipping as clipping
from jaxinv.defenses.dp_sgd import NOISE_MULTIPLIER as NOISE_MULTIPLIER
from jaxinv.defenses.dp_sgd import dp_sgd as dp_sgd
from jaxinv.defenses.dp_sgd import epsilon as epsilon
from jaxinv.defenses.encryption import encryption as encryption
from jaxinv.defenses.learned_perturbation import saved_perturbation
from jaxinv.defenses.mixup import mixup as mixup
from jaxinv.defenses.noise import gaussian_noise as gaussian_noise
from jaxinv.defenses.noise import laplace_noise as laplace_noise
from jaxinv.defenses.protection import expected as expected
from jaxinv.defenses.protection import protect as protect
from jaxinv.defenses.pruning import pruning as pruning
from jaxinv.defenses.quantisation import rotated_quantisation as rotated_quantisation
from jaxinv.defenses.quantisation import sign as sign
from jaxinv.defenses.quantisation import (
    stochastic_quantisation as stochastic_quantisation,
)
from jaxinv.defenses.rotation import rotated as rotated
from jaxinv.defenses.soteria import soteria as soteria
from jaxinv.errors import InputError, nearest
from jaxinv.options import check_options, parsed
from jaxinv.release import Release
from jaxinv.target import Target


class DefenseEntry(NamedTuple):
    """A row of the table of defences."""

    make: Callable[..., Any]
    """`(*, ...)`, an optax transformation of updates; or, with `reads`, `(release,
    *read, *, ...)`, a release."""
    title: str
    """As a person would say it."""
    paper: str
    """Where it comes from."""
    about: str
    """One line for a person who chooses."""
    reads: Callable[[Target], tuple[Any, ...]] | None = None
    """What a defence that wraps a release wants of the target; None for a defence of
    updates."""
    draws: bool = False
    """Whether what is sent depends on chance even in the mean: an attacker who knows
    the defence averages over draws of its own."""
    as_matched: dict[str, Any] | None = None
    """Options under which an attacker who knows the defence goes through it: those that
    leave its mean over draws, or save work that leaves no trace. Empty where nothing is
    left to go through, None where the defence stays as it is."""
    hides: bool = False
    """Whether the server sees which numbers were left out, so that an attacker who
    knows the defence matches the others and does not go through it."""
    summed: bool = False
    """Whether what is hidden still reaches the server, in the sum over clients: then
    training under the defence is training without it."""


DEFENSES: dict[str, DefenseEntry] = {
    "censor": DefenseEntry(
        censor,
        "CENSOR",
        "Zhang et al., NDSS 2025, arXiv 2501.15718",
        "a random update orthogonal to the gradient, the best of some trials",
        reads=lambda target: (target.loss,),
        draws=True,
        # Which of the random directions was sent says next to nothing of the batch.
        as_matched={"trials": 1},
    ),
    "clipping": DefenseEntry(
        clipping,
        "Clipping",
        "Abadi et al., CCS 2016, arXiv 1607.00133",
        "shortens a long update, whole or tensor by tensor",
    ),
    "dp_sgd": DefenseEntry(
        dp_sgd,
        "DP-SGD",
        "Abadi et al., CCS 2016, arXiv 1607.00133",
        "clips every example's gradient and adds noise; has an epsilon",
        reads=lambda target: (),
        as_matched={"noise_multiplier": 0.0},
    ),
    "encryption": DefenseEntry(
        encryption,
        "Selective encryption",
        "Jin et al., FedML-HE, arXiv 2303.10837; Gu et al., arXiv 2508.04155",
        "encrypts the most significant numbers, which the server sees only summed",
        reads=lambda target: (target,),
        hides=True,
        summed=True,
    ),
    "gaussian_noise": DefenseEntry(
        gaussian_noise,
        "Gaussian noise",
        "Zhu et al., NeurIPS 2019, arXiv 1906.08935",
        "the same noise on every number",
        as_matched={},
    ),
    "laplace_noise": DefenseEntry(
        laplace_noise,
        "Laplace noise",
        "Zhu et al., NeurIPS 2019, arXiv 1906.08935",
        "the same noise on every number, with heavier tails",
        as_matched={},
    ),
    "learned_perturbation": DefenseEntry(
        saved_perturbation,
        "Learnable data perturbation",
        "after Jiang et al., arXiv 2503.16542, from its abstract",
        "trains on images that a fitted network has moved; path names its file",
        reads=lambda target: (),
        draws=True,
    ),
    "mixup": DefenseEntry(
        mixup,
        "Mixup",
        "Zhang et al., ICLR 2018, arXiv 1710.09412",
        "the gradient of mixtures of the batch's examples",
        reads=lambda target: (target.spec.num_classes,),
        draws=True,
    ),
    "pruning": DefenseEntry(
        pruning,
        "Gradient pruning",
        "Zhu et al., NeurIPS 2019, arXiv 1906.08935",
        "sends the largest numbers alone, of all or of every tensor",
        hides=True,
    ),
    "rotated_quantisation": DefenseEntry(
        rotated_quantisation,
        "Quantisation in a random basis",
        "Suresh et al., ICML 2017, arXiv 1611.00429",
        "few bits for each number, in a basis that nothing stands out of",
        as_matched={},
    ),
    "sign": DefenseEntry(
        sign,
        "Signs",
        "Bernstein et al., ICML 2018, arXiv 1802.04434",
        "one bit for each number, and a size for each tensor",
    ),
    "soteria": DefenseEntry(
        soteria,
        "Soteria",
        "Sun et al., CVPR 2021, arXiv 2012.06043",
        "leaves the most telling features out of the last layer",
        reads=lambda target: (target,),
        hides=True,
    ),
    "stochastic_quantisation": DefenseEntry(
        stochastic_quantisation,
        "Stochastic quantisation",
        "Alistarh et al., NeurIPS 2017, arXiv 1610.02132",
        "few bits for each number, rounded without bias",
        as_matched={},
    ),
}
"""Every defence that has a name."""


class Asked(NamedTuple):
    """A defence as a person asks for it."""

    name: str
    """A key of `DEFENSES`."""
    options: dict[str, Any]
    """Of that defence, by name."""

    def __str__(self) -> str:
        """As `asked` reads it."""
        words = [f"{name}={value}" for name, value in self.options.items()]
        return self.name + (":" if words else "") + ",".join(words)


def asked(text: str) -> Asked:
    """A defence from `NAME` or `NAME:option=value,option=value`.

    Raises:
      InputError: it has another form, or the name or an option is unknown (with the
        nearest ones) or of the wrong kind.
    """
    name, colon, words = text.partition(":")
    if name not in DEFENSES:
        raise InputError(f"defense is {name!r}; {nearest(name, DEFENSES)}")
    options = {}
    for word in words.split(",") if colon else ():
        option, equals, value = word.partition("=")
        if not equals or not option.isidentifier():
            raise InputError(
                f"defense is {text!r}; expected NAME or NAME:option=value,option=value"
            )
        options[option] = parsed(value)
    check_options(name, DEFENSES[name].make, options)
    return Asked(name, options)


def build(defenses: Sequence[Asked], release: Release, target: Target) -> Release:
    """A release through defences, the first one first.

    Args:
      defenses: none leaves the release as it is.
      release: what the client would send.
      target: the model it trains.

    Raises:
      InputError: an option is out of range, or a defence does not fit the target; or
        one that encrypts is not the last.
    """
    for index, (name, options) in enumerate(defenses, start=1):
        entry = DEFENSES[name]
        if entry.summed and index < len(defenses):
            raise InputError(
                f"defense {name} comes before {defenses[index].name}; expected it "
                "last, for nothing acts on what is encrypted"
            )
        check_options(name, entry.make, options)
        if entry.reads is None:
            release = protect(release, entry.make(**options))
        else:
            release = entry.make(release, *entry.reads(target), **options)
    return release


def build_known(
    defenses: Sequence[Asked], release: Release, target: Target, *, draws: int = 4
) -> Release:
    """What an attacker matches who knows the defences, and not what they drew.

    Noise that is 0 in the mean is left out, what hides numbers too (match the visible
    ones alone, `jaxinv.observation.Knowledge.visible`); over draws that matter in the
    mean the attacker averages.

    Args:
      defenses: as in `build`.
      release: what the client would send.
      target: the model.
      draws: over how many draws the attacker averages.

    Raises:
      InputError: as `build`.
    """
    release = build(matched(defenses), release, target)
    if any(DEFENSES[name].draws for name, _ in defenses):
        return expected(release, draws)
    return release


def matched(defenses: Sequence[Asked]) -> list[Asked]:
    """What is left of defences for an attacker who knows them; see `build_known`."""
    left = []
    for name, options in defenses:
        entry = DEFENSES[name]
        if not entry.hides and entry.as_matched != {}:
            left.append(Asked(name, {**options, **(entry.as_matched or {})}))
    return left


def build_summed(
    defenses: Sequence[Asked], release: Release, target: Target
) -> Release:
    """What of a client reaches the sum over clients, which is what a model learns from.

    Arguments and errors as in `build`.
    """
    build(defenses, release, target)  # for its errors: what is left out may be wrong
    kept = [one for one in defenses if not DEFENSES[one.name].summed]
    return build(kept, release, target)


def hides(defenses: Sequence[Asked]) -> bool:
    """Whether the server sees that numbers were left out of what is sent."""
    return any(DEFENSES[name].hides for name, _ in defenses)


def options_line(name: str) -> str:
    """A defence's options with their defaults, for a person."""
    known = inspect.signature(DEFENSES[name].make).parameters.values()
    shown = [p for p in known if p.default not in (p.empty, None) and p.name != "seed"]
    return ", ".join(f"{p.name}={p.default}" for p in shown)
