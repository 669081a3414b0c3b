"""The audit of graph networks: molecules, and neighbourhoods of a citation network."""

from jaxinv.audits.graphs.audit import AuditResult as AuditResult
from jaxinv.audits.graphs.audit import run_audit as run_audit
from jaxinv.audits.graphs.config import AuditConfig as AuditConfig
from jaxinv.audits.graphs.config import CitationsConfig as CitationsConfig
from jaxinv.audits.graphs.config import MoleculesConfig as MoleculesConfig
