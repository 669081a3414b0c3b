"""The audit of a recommender: its users, their ratings, what their rounds give away."""

from jaxinv.audits.recommender.audit import AuditResult as AuditResult
from jaxinv.audits.recommender.audit import run_audit as run_audit
from jaxinv.audits.recommender.config import AuditConfig as AuditConfig
