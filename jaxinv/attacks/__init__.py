"""Attacks, by name. A new one is a file here and a row in `ATTACKS`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxinv.attacks.base import Attack as Attack
from jaxinv.attacks.base import AttackFn as AttackFn
from jaxinv.attacks.base import Reconstruction as Reconstruction
from jaxinv.attacks.base import Status as Status
from jaxinv.attacks.base import closed_form as closed_form
from jaxinv.attacks.base import iterate as iterate
from jaxinv.attacks.base import restarts as restarts
from jaxinv.attacks.censor_matching import censor_matching as censor_matching
from jaxinv.attacks.censor_null_space import censor_null_space as censor_null_space
from jaxinv.attacks.cosine_lbfgs import cosine_lbfgs as cosine_lbfgs
from jaxinv.attacks.dlg import dlg as dlg
from jaxinv.attacks.factorization import factorization as factorization
from jaxinv.attacks.fedavg_epochs import fedavg_epochs as fedavg_epochs
from jaxinv.attacks.gradient_matching import gradient_matching as gradient_matching
from jaxinv.attacks.idlg import idlg as idlg
from jaxinv.attacks.inverting_gradients import (
    inverting_gradients as inverting_gradients,
)
from jaxinv.attacks.labels import LABEL_RULES as LABEL_RULES
from jaxinv.attacks.labels import label_rule as label_rule
from jaxinv.attacks.linear_layer import linear_layer as linear_layer
from jaxinv.attacks.mgradinv import mgradinv as mgradinv
from jaxinv.attacks.modern import modern as modern
from jaxinv.attacks.rgap import rgap as rgap
from jaxinv.attacks.see_through_gradients import (
    see_through_gradients as see_through_gradients,
)
from jaxinv.errors import InputError, nearest
from jaxinv.options import check_options
from jaxinv.space import LABEL_WAYS
from jaxinv.target import Target


class AttackEntry(NamedTuple):
    """A row of the table of attacks."""

    make: Callable[..., Attack | AttackFn]
    """`(target, *, ...)`, an Attack, or an AttackFn where there is no loop."""
    title: str
    """As a person would say it."""
    paper: str
    """Where it comes from."""
    about: str
    """One line for a person who chooses."""
    target: str
    """A model of the zoo that it suits: where it is tested, and what it is audited on
    when none is named."""


ATTACKS: dict[str, AttackEntry] = {
    "censor_matching": AttackEntry(
        censor_matching,
        "Matching against CENSOR",
        "ours, against Zhang et al., NDSS 2025, arXiv 2501.15718",
        "matches what CENSOR leaves: norms, and right angles to what was sent",
        "lenet",
    ),
    "cosine_lbfgs": AttackEntry(
        cosine_lbfgs,
        "Inverting Gradients by L-BFGS",
        "after Geiping et al., NeurIPS 2020, arXiv 2003.14053",
        "L-BFGS on the cosine, total variation; smooth models, weight deltas",
        "lenet",
    ),
    "dlg": AttackEntry(
        dlg,
        "Deep Leakage from Gradients",
        "Zhu et al., NeurIPS 2019, arXiv 1906.08935",
        "L-BFGS on the squared distance; smooth models, small batches",
        "lenet",
    ),
    "idlg": AttackEntry(
        idlg,
        "Improved Deep Leakage from Gradients",
        "Zhao et al. 2020, arXiv 2001.02610",
        "DLG with the label read from the gradient's sign; a batch of one",
        "lenet",
    ),
    "inverting_gradients": AttackEntry(
        inverting_gradients,
        "Inverting Gradients",
        "Geiping et al., NeurIPS 2020, arXiv 2003.14053",
        "signed Adam on the cosine, total variation; the standard of the field",
        "lenet",
    ),
    "linear_layer": AttackEntry(
        linear_layer,
        "Linear-layer inversion",
        "Phong et al. 2017; Geiping et al. 2020, Prop. 3.1",
        "closed form; a first layer that is dense and has a bias",
        "mlp",
    ),
    "modern": AttackEntry(
        modern,
        'The "modern" combination',
        "Geiping et al., breaching framework, 2022",
        "soft-signed Adam, feature prior, patterned start; deep networks",
        "convnet",
    ),
    "rgap": AttackEntry(
        rgap,
        "R-GAP, recursive gradient attack",
        "Zhu and Blaschko, ICLR 2021, arXiv 2010.07733",
        "closed form, layer by layer; a plain chain and a batch of one",
        "lenet",
    ),
    "see_through_gradients": AttackEntry(
        see_through_gradients,
        "See through Gradients (GradInversion)",
        "Yin et al., CVPR 2021, arXiv 2104.07586",
        "batch-norm statistics and group consistency; deep networks",
        "convnet",
    ),
}
"""Every attack that has a name."""


def build(name: str, target: Target, **options: Any) -> Attack:
    """An attack on a target, by name.

    Args:
      name: a key of `ATTACKS`.
      target: the model under attack.
      **options: of that attack; `labels` may be the name of a rule of `LABEL_RULES`.

    Raises:
      InputError: the name or an option is unknown (with the nearest ones), or an
        option is out of range.
    """
    return maker(name, target, **options)()


def maker(name: str, target: Target, **options: Any) -> Callable[..., Attack]:
    """What makes an attack of hyper-parameters that are still open.

    Args:
      name: a key of `ATTACKS`.
      target: the model under attack.
      **options: those that are settled.

    Returns:
      `(**open) -> Attack`, for `jaxinv.Runner` and whoever else gives each start its
      own.

    Raises:
      InputError: as `build`.
    """
    if name not in ATTACKS:
        raise InputError(f"attack is {name!r}; {nearest(name, ATTACKS)}")
    make = ATTACKS[name].make
    check_options(name, make, options)
    labels = options.get("labels")
    if isinstance(labels, str) and labels not in LABEL_WAYS:
        options["labels"] = label_rule(labels, target)

    def made(**more: Any) -> Attack:
        attack = make(target, **options, **more)
        return attack if isinstance(attack, Attack) else closed_form(attack)

    return made


def has_loop(name: str) -> bool:
    """Whether the attack takes steps, so that iterations and restarts count."""
    return "num_steps" in inspect.signature(ATTACKS[name].make).parameters
