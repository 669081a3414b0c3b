"""Audits inside a Flower federation: what each round's replies give away.

An `Audit` says what clients send and what attacks it. `audit_mod` runs it on a client,
which can compare the result with its own data and refuse to send. `AuditedStrategy`
runs it on the server around any strategy, where nobody knows the truth.
"""

from jaxinv.errors import InputError

try:
    import flwr as _flwr
except ImportError as error:
    raise InputError(
        f"jaxinv.flower needs Flower ({error}); pip install 'jaxinv[flower]'"
    ) from None

from jaxinv.flower.arrays import arrays_of as arrays_of
from jaxinv.flower.arrays import in_order as in_order
from jaxinv.flower.audit import Audit as Audit
from jaxinv.flower.mod import audit_mod as audit_mod
from jaxinv.flower.record import Entry as Entry
from jaxinv.flower.strategy import AuditedStrategy as AuditedStrategy

del _flwr


def __getattr__(name: str) -> object:
    # A client draws no page, and Flower starts a process for each of its messages.
    if name == "write_report":
        from jaxinv.flower.report import write_report

        return write_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
