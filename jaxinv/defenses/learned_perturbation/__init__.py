"""Learnable data perturbation: images are moved in a latent space before training.

Re-derived from the abstract of Jiang, Firouzi and Chakrabarty, arXiv 2503.16542; see
`perturber` for the defence, `game` and `training` for how it is fitted, `best_response`
for the learned attack that judges it.
"""

from jaxinv.defenses.learned_perturbation.autoencoder import pretrain
from jaxinv.defenses.learned_perturbation.best_response import best_response
from jaxinv.defenses.learned_perturbation.game import Game, Rates, Trace, Weights
from jaxinv.defenses.learned_perturbation.inverter import (
    Inverter,
    InverterDesign,
    features,
    fresh_inverter,
    inverted,
)
from jaxinv.defenses.learned_perturbation.perturber import (
    Design,
    Perturbed,
    Perturber,
    fresh,
    perturbed,
)
from jaxinv.defenses.learned_perturbation.release import (
    LearnedPerturbation,
    learned_perturbation,
    saved_perturbation,
)
from jaxinv.defenses.learned_perturbation.storage import load, save
from jaxinv.defenses.learned_perturbation.training import minimax

__all__ = [
    "Design",
    "Game",
    "Inverter",
    "InverterDesign",
    "LearnedPerturbation",
    "Perturbed",
    "Perturber",
    "Rates",
    "Trace",
    "Weights",
    "best_response",
    "features",
    "fresh",
    "fresh_inverter",
    "inverted",
    "learned_perturbation",
    "load",
    "minimax",
    "perturbed",
    "pretrain",
    "save",
    "saved_perturbation",
]
