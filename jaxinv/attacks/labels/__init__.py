"""Label recovery: which classes are in the batch, and how often, from the update alone.

A rule is `(key, observation) -> labels [N]`, int32 and sorted, for the order of a batch
leaves no trace in a mean gradient. Rules read the first round, and of a weight delta
the mean gradient that it holds (`jaxinv.observation.mean_gradient`). Where the output
layer is encrypted in part they go by the rest (`jaxinv.attacks.labels.head`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jaxinv.attacks.labels.analytic import analytic as analytic
from jaxinv.attacks.labels.bias_corrected import bias_corrected as bias_corrected
from jaxinv.attacks.labels.gradinversion import gradinversion as gradinversion
from jaxinv.attacks.labels.idlg import idlg as idlg
from jaxinv.attacks.labels.ilrg import ilrg as ilrg
from jaxinv.attacks.labels.masked_rows import masked_rows as masked_rows
from jaxinv.attacks.labels.wainakh_simple import wainakh_simple as wainakh_simple
from jaxinv.attacks.labels.wainakh_whitebox import wainakh_whitebox as wainakh_whitebox
from jaxinv.errors import InputError, nearest
from jaxinv.space import LabelRule as LabelRule
from jaxinv.target import Target


class LabelRuleEntry(NamedTuple):
    """A row of the table of rules."""

    name: str
    """As the command line knows it."""
    build: Callable[[Target], LabelRule]
    """`(target) -> rule` with the rule's default options."""
    assumes: str
    """What has to hold for the answer to be right."""
    citation: str
    """Where it comes from."""


def _without_target(build: Callable[[], LabelRule]) -> Callable[[Target], LabelRule]:
    return lambda target: build()


_ROWS = (
    LabelRuleEntry(
        "idlg",
        _without_target(idlg),
        "one example; with two classes, also non-negative features",
        "Zhao et al. 2020, arXiv 2001.02610",
    ),
    LabelRuleEntry(
        "analytic",
        _without_target(analytic),
        "output bias; past the certified part, predictions near uniform",
        "Zhao et al. 2020, arXiv 2001.02610, for a batch",
    ),
    LabelRuleEntry(
        "gradinversion",
        _without_target(gradinversion),
        "distinct labels, non-negative features",
        "Yin et al. 2021, arXiv 2104.07586",
    ),
    LabelRuleEntry(
        "wainakh_simple",
        _without_target(wainakh_simple),
        "non-negative features, predictions near uniform",
        "Wainakh et al. 2022, arXiv 2105.09369, LLG",
    ),
    LabelRuleEntry(
        "wainakh_whitebox",
        wainakh_whitebox,
        "non-negative features like those of random inputs",
        "Wainakh et al. 2022, arXiv 2105.09369, LLG*",
    ),
    LabelRuleEntry(
        "bias_corrected",
        _without_target(bias_corrected),
        "output bias, predictions near uniform",
        "Geiping et al. 2022, breaching's default",
    ),
    LabelRuleEntry(
        "ilrg",
        _without_target(ilrg),
        "output bias, features alike within a class",
        "Ma et al. 2023, ICLR, openreview FIrQfNSOoTr",
    ),
)

LABEL_RULES: dict[str, LabelRuleEntry] = {row.name: row for row in _ROWS}
"""Every rule by name."""


def label_rule(name: str, target: Target) -> LabelRule:
    """The rule of that name with its default options.

    Args:
      name: a key of `LABEL_RULES`; "-" and "_" are the same.
      target: the model under attack, for the rules that run it.

    Raises:
      InputError: no rule has this name; the message offers the nearest.
    """
    entry = LABEL_RULES.get(name.replace("-", "_"))
    if entry is None:
        raise InputError(f"labels is {name!r}; {nearest(name, LABEL_RULES)}")
    return entry.build(target)
