"""DLG: Deep Leakage from Gradients.

Zhu, Liu and Han, NeurIPS 2019 (arXiv 1906.08935). Squared distance of gradients,
joint soft labels, L-BFGS with step 1, no prior and no box. The paper's 300 outer steps
of PyTorch's L-BFGS are up to 20 gradient evaluations each; steps here are evaluations.
"""

from __future__ import annotations

from jaxinv import matching, space
from jaxinv.attacks.base import Attack
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.attacks.lbfgs import lbfgs
from jaxinv.objective import objective
from jaxinv.release import Release, gradient
from jaxinv.space import LabelRule
from jaxinv.target import Target


def dlg(
    target: Target,
    *,
    release: Release | None = None,
    num_steps: int = 6000,
    labels: LabelRule | str = "known_or_joint",
    learning_rate: float = 1.0,
    memory_size: int = 100,
) -> Attack:
    """DLG against one gradient.

    Args:
      target: the model.
      release: what the client did; None is one gradient of the target's loss.
      num_steps: gradient evaluations.
      labels: how labels are had, see `jaxinv.space.pixels`. The paper's own way is
        "joint"; the default uses labels where the observation grants them.
      learning_rate: of L-BFGS.
      memory_size: curvature pairs that L-BFGS keeps (PyTorch's default, 100).
    """
    return gradient_matching(
        objective(release or gradient(target.loss), matching.squared()),
        space.pixels(target.spec, labels=labels, box=False),
        # PyTorch's thresholds are in units of the objective and end the search at a
        # score of about 1e-6: long before the image is exact, and the sooner the
        # smaller the observed gradient is.
        lbfgs(learning_rate, memory_size, min_curvature=0.0, min_descent=0.0),
        num_steps,
    )
