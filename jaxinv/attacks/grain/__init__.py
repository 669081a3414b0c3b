"""GRAIN: the client's whole graph from one gradient, exactly, with a certificate."""

from jaxinv.attacks.grain.attack import grain
from jaxinv.attacks.grain.outcome import (
    LIMITS,
    Certificate,
    Limits,
    Recovered,
    gave_up,
)

__all__ = ["LIMITS", "Certificate", "Limits", "Recovered", "gave_up", "grain"]
