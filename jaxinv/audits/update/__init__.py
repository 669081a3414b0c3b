"""The audit of a real update: what came from a client elsewhere, in files."""

from jaxinv.audits.update.audit import UpdateResult as UpdateResult
from jaxinv.audits.update.audit import run_audit as run_audit
from jaxinv.audits.update.config import UpdateConfig as UpdateConfig
