"""Hardening: parameters of a defence, learned against an attack by gradients.

`harden` takes a `PrivacyFn` (`through_steps` of an attack, or `at_solution` of one), a
`Constraint` (what the parameters may be: a budget, a range) and a draw of clients.
"""

from jaxinv.hardening.constraints import Constraint as Constraint
from jaxinv.hardening.constraints import mask_budget as mask_budget
from jaxinv.hardening.constraints import noise_budget as noise_budget
from jaxinv.hardening.constraints import positive as positive
from jaxinv.hardening.constraints import unconstrained as unconstrained
from jaxinv.hardening.harden import Hardened as Hardened
from jaxinv.hardening.harden import Hardening as Hardening
from jaxinv.hardening.harden import harden as harden
from jaxinv.hardening.harden import hardening as hardening
from jaxinv.hardening.implicit import ImplicitSlope as ImplicitSlope
from jaxinv.hardening.implicit import at_solution as at_solution
from jaxinv.hardening.implicit import implicit_slope as implicit_slope
from jaxinv.hardening.posterior import to_first_order as to_first_order
from jaxinv.hardening.privacy import PrivacyFn as PrivacyFn
from jaxinv.hardening.privacy import PrivacySlope as PrivacySlope
from jaxinv.hardening.privacy import decibels as decibels
from jaxinv.hardening.privacy import from_truth as from_truth
from jaxinv.hardening.privacy import mean_squared as mean_squared
from jaxinv.hardening.privacy import through_steps as through_steps
from jaxinv.hardening.soft_masks import inverse_variance as inverse_variance
from jaxinv.hardening.soft_masks import soft_pruning as soft_pruning
from jaxinv.hardening.soft_masks import visible as visible
from jaxinv.hardening.unrolled import Unrolled as Unrolled
from jaxinv.hardening.unrolled import unrolled as unrolled
from jaxinv.hardening.utility import noise_prices as noise_prices
from jaxinv.hardening.utility import scale_for as scale_for
from jaxinv.hardening.utility import training_loss as training_loss
