"""GRAIN: the client's whole graph from one gradient, exactly, with a certificate."""

from jaxinv.attacks.grain.attack import LIMITS, Limits, grain
from jaxinv.attacks.grain.outcome import Certificate, Recovered

__all__ = ["LIMITS", "Certificate", "Limits", "Recovered", "grain"]
