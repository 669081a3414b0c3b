"""Sweeps that take seconds."""

from jaxinv.sweeps import Sweep

CASE = {
    "name": "digits",
    "data": "digits",
    "target": "mlp",
    "num_examples": 3,
    "set": {"target.widths": [[8]]},
}
SEARCH = {"name": "inverting_gradients", "restarts": 3, "iterations": 40}


def small(**changes) -> Sweep:
    fields = {
        "cases": (CASE,),
        "attacks": (
            {**SEARCH, "set": {"attack.tv": [0.01, 0.1]}},
            {"name": "linear_layer"},
        ),
        "defenses": ("none", "gaussian_noise:std=0.01"),
        "seeds": (0, 1),
        "checkpoint_s": 1000,
    }
    return Sweep(**{**fields, **changes})
