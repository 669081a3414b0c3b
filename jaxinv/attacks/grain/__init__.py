"""GRAIN: the client's whole graph from one gradient, exactly, with a certificate."""

from jaxinv.attacks.grain.attack import Domain, grain
from jaxinv.attacks.grain.outcome import Certificate, Recovered

__all__ = ["Certificate", "Domain", "Recovered", "grain"]
