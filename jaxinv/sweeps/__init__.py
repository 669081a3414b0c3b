"""Sweeps: many audits of images as one resumable run, a row for each example."""

from jaxinv.sweeps.position import SweepProgress as SweepProgress
from jaxinv.sweeps.record import Swept as Swept
from jaxinv.sweeps.record import record as record
from jaxinv.sweeps.spec import Sweep as Sweep
from jaxinv.sweeps.spec import read_spec as read_spec
from jaxinv.sweeps.sweep import SweepResult as SweepResult
from jaxinv.sweeps.sweep import sweep as sweep
