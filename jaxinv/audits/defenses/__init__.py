"""Comparing defences: what each leaves to an attacker, and what it costs."""

from jaxinv.audits.defenses.compare import Comparison as Comparison
from jaxinv.audits.defenses.compare import compare as compare
from jaxinv.audits.defenses.config import CompareConfig as CompareConfig
from jaxinv.audits.defenses.utility import Training as Training
from jaxinv.audits.defenses.utility import Utility as Utility
from jaxinv.audits.defenses.utility import utility as utility
