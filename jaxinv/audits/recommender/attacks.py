"""Attacks on ratings, by name. A new one is a file in `jaxinv.attacks` and a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxinv.attacks.base import Attack, AttackFn, closed_form
from jaxinv.attacks.factorization import factorization
from jaxinv.attacks.mgradinv import mgradinv
from jaxinv.models.recommenders import Recommender
from jaxinv.options import check_options


class AttackEntry(NamedTuple):
    """A row of the table."""

    make: Callable[..., Attack | AttackFn]
    """`(model, *, ...)`, an Attack, or an AttackFn where there is no loop."""
    title: str
    """As a person would say it."""
    paper: str
    """Where it comes from."""
    about: str
    """One line for a person who chooses."""
    models: tuple[str, ...]
    """Names in `RECOMMENDERS` that it attacks."""
    loop: bool
    """Whether it takes steps, so that iterations and restarts count."""
    implicit: bool
    """Whether it also finds interactions, ratings of 0 or 1."""
    hidden: bool
    """Whether it also finds which items are rated, where noise hides them."""


ATTACKS: dict[str, AttackEntry] = {
    "factorization": AttackEntry(
        factorization,
        "Factorisation of several rounds",
        "after FedMF (Chai et al., arXiv 1906.05108) and MGradInv (Deng et al. 2025)",
        "closed form; matrix factorisation of explicit ratings, two rounds or more",
        ("mf",),
        loop=False,
        implicit=False,
        hidden=False,
    ),
    "mgradinv": AttackEntry(
        mgradinv,
        "MGradInv",
        "Deng et al. 2025, re-derived from its abstract",
        "matches every round, with one set of ratings and embeddings of their own",
        ("mf", "gmf", "ncf"),
        loop=True,
        implicit=True,
        hidden=True,
    ),
}
"""Every attack on ratings; of those that suit a model the first is its default."""


def default_attack(model: str, *, implicit: bool = False, hidden: bool = False) -> str:
    """The name of the attack on a model where none is asked for.

    Args:
      model: a name in `RECOMMENDERS`.
      implicit: whether ratings are interactions.
      hidden: whether the rated items are to be found as well.
    """
    return next(
        name
        for name, row in ATTACKS.items()
        if model in row.models and implicit <= row.implicit and hidden <= row.hidden
    )


def build_attack(name: str, model: Recommender, **options: Any) -> Attack:
    """An attack by name.

    Raises:
      InputError: an option is unknown or out of range, or the model does not suit.
    """
    make = ATTACKS[name].make
    check_options(name, make, options)
    made = make(model, **options)
    return made if isinstance(made, Attack) else closed_form(made)
