"""The audit of images: a classifier's client, its batch, the gradient it sends."""

from jaxinv.audits.images.audit import AuditResult as AuditResult
from jaxinv.audits.images.audit import run_audit as run_audit
from jaxinv.audits.images.config import AuditConfig as AuditConfig
