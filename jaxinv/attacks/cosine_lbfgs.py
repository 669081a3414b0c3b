"""Inverting Gradients' objective, searched by L-BFGS: for smooth models and deltas.

Geiping et al., NeurIPS 2020 (arXiv 2003.14053), whose released code has L-BFGS beside
Adam: one minus the cosine of the updates plus total variation, in the box of valid
pixels. Where the model is smooth, curvature is worth more than signs, and the cosine
does not ask how small an update is, so that weight deltas of local training fit. The
total variation is the isotropic one, smooth itself. Weight and steps are ours, for a
sigmoid LeNet.
"""

from __future__ import annotations

from jaxinv import matching, priors, space
from jaxinv.attacks import labels as label_rules
from jaxinv.attacks.base import Attack
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.attacks.lbfgs import lbfgs
from jaxinv.objective import objective
from jaxinv.release import Release, gradient
from jaxinv.space import LabelRule, known_or, shuffled
from jaxinv.target import Target


def cosine_lbfgs(
    target: Target,
    *,
    release: Release | None = None,
    num_steps: int = 2500,
    labels: LabelRule | str | None = None,
    tv: float = 1e-4,
    memory_size: int = 100,
) -> Attack:
    """The cosine and isotropic total variation, by L-BFGS.

    Args:
      target: the model; activations with a kink are better left to
        `inverting_gradients`.
      release: what the client did; None is one gradient of the target's loss.
      num_steps: gradient evaluations.
      labels: see `jaxinv.space.pixels`; None uses granted labels, else those of the
        bias-corrected rule, in an order of each start's own: which labels met in which
        local step nobody told.
      tv: weight of the isotropic total variation.
      memory_size: curvature pairs that L-BFGS keeps.
    """
    return gradient_matching(
        objective(
            release or gradient(target.loss),
            matching.cosine(),
            priors.weighted((tv, priors.total_variation(inner=2, outer=0.5))),
        ),
        space.pixels(
            target.spec,
            labels=labels or known_or(shuffled(label_rules.bias_corrected())),
        ),
        # PyTorch's thresholds are in units of the objective and would end the search
        # at a cosine of 1e-6, where a delta still has digits.
        lbfgs(memory_size=memory_size, min_curvature=0.0, min_descent=0.0),
        num_steps,
    )
