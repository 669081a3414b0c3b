"""Gradient matching against CENSOR, by an attacker who knows the defence.

CENSOR (Zhang et al., NDSS 2025, arXiv 2501.15718) sends for every tensor a random one
at a right angle to the gradient's, as long as it. So each upload says two things of
every tensor of a guess's gradient: how long it is, and one direction that it does not
have. The guess is searched for as in Inverting Gradients (Geiping et al., NeurIPS 2020,
arXiv 2003.14053), with both in place of the cosine. Ours; not in the paper.

With T uploads of one batch at the same weights a model of L tensors gives L (T + 1)
equations. From d - 1 uploads on, a tensor of d numbers is matched as in the undefended
case, but for its sign.
"""

from __future__ import annotations

from typing import Any

import jax
import optax

from jaxinv import priors, space
from jaxinv.attacks.base import Attack
from jaxinv.attacks.censor_null_space import censor_labels
from jaxinv.attacks.censor_uploads import check_uploads, unrelated
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.attacks.optimizers import signed_gradient, step_decay, warmup_cosine
from jaxinv.defenses.checks import check_strength
from jaxinv.objective import ObjectiveFn, Terms
from jaxinv.observation import Observation
from jaxinv.options import check_choice
from jaxinv.priors import PriorFn
from jaxinv.release import Release, gradient
from jaxinv.space import LabelRule, known_or
from jaxinv.target import Target

_SCHEDULES = {"step": step_decay, "cosine": warmup_cosine}


def censor_matching(
    target: Target,
    *,
    release: Release | None = None,
    num_steps: int = 2_000,
    labels: LabelRule | str | None = None,
    learning_rate: float = 0.1,
    tv: float = 0.01,
    right_angles: float = 1.0,
    norms: float = 1.0,
    signed: str | None = "hard",
    schedule: str = "step",
) -> Attack:
    """Matches norms and right angles of one upload or of many.

    All uploads are taken for those of one batch at the weights of the first round
    (`jaxinv.attacks.censor_uploads.observe_repeated`). Many tell more after
    `jaxinv.attacks.censor_uploads.orthonormal`, once before the attack.

    Args:
      target: the model.
      release: what the client does before CENSOR; None is one gradient of the target's
        loss.
      num_steps: gradient evaluations.
      labels: see `jaxinv.space.pixels`; None uses granted labels, else
        `jaxinv.attacks.censor_null_space.censor_labels`.
      learning_rate: Adam's first step size, in units of the normalised pixels.
      tv: weight of the total variation.
      right_angles: weight of the squared sine, see
        `jaxinv.attacks.censor_uploads.unrelated`; 0 leaves the norms alone.
      norms: weight of the squared logarithm of the ratio of norms.
      signed: "hard", "soft", or None for the plain gradient.
      schedule: "step", or "cosine" after 50 steps of warm-up.

    Returns:
      An attack whose score is the weighted sum of both, without the prior.

    Raises:
      InputError: an option is out of range; when called, the observation is a weight
        delta or encrypted in part.
    """
    check_choice("schedule", schedule, _SCHEDULES)
    check_strength("right_angles", right_angles)
    check_strength("norms", norms)
    adam = optax.adam(_SCHEDULES[schedule](learning_rate, num_steps))
    if signed is not None:
        adam = optax.chain(signed_gradient(signed, num_steps), adam)
    return gradient_matching(
        censor_objective(
            release or gradient(target.loss),
            priors.weighted((tv, priors.total_variation())),
            right_angles=right_angles,
            norms=norms,
        ),
        space.pixels(target.spec, labels=labels or known_or(censor_labels(target))),
        adam,
        num_steps,
    )


def censor_objective(
    release: Release,
    prior: PriorFn = priors.no_prior,
    *,
    right_angles: float = 1.0,
    norms: float = 1.0,
) -> ObjectiveFn:
    """`right_angles * squared sine + norms * squared logarithm + prior`.

    Args:
      release: what the client does before CENSOR.
      prior: weighted already.
      right_angles: as in `censor_matching`.
      norms: as in `censor_matching`.
    """

    def fn(key: jax.Array, observation: Observation, batch: Any):
        check_uploads(observation, "censor_matching")
        guess = release(key, observation.round(0)[0], batch)
        sine, logarithm = unrelated(guess, observation.update)
        terms = Terms(
            right_angles * sine + norms * logarithm, prior(observation, batch)
        )
        return terms.match + terms.prior, terms

    return fn
