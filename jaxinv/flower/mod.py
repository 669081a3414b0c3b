"""A mod that attacks what its own client is about to send.

Where it stands among the mods decides what it audits. Flower calls mods in the order
of the list, and a reply passes them in reverse: a mod before a clipping or noise mod
sees what leaves the device, one after it sees the raw update.

    ClientApp(mods=[audit_mod(audit, truth), LocalDpMod(...)])    # what the server gets
    ClientApp(mods=[LocalDpMod(...), audit_mod(audit, truth)])    # without protection
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from logging import INFO, WARNING
from typing import Any

from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MessageType,
    MetricRecord,
    MetricRecordValues,
)
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.common.constant import ErrorCode
from flwr.common.logger import log

from jaxinv.errors import InputError
from jaxinv.flower.arrays import record_of
from jaxinv.flower.audit import Audit
from jaxinv.flower.journal import note
from jaxinv.flower.judge import judge
from jaxinv.flower.record import FAILED, Entry, attempted, reason_of
from jaxinv.reports.folder import check_folder
from jaxinv.target import Batch

Truth = Callable[[Message, Context], Batch]
"""`(message, context) -> batch`, what the client trained on for this message."""

PSNR, IDENTIFIED = "audit/psnr", "audit/identified"
"""Metrics that are attached to a reply: the mean over its examples in dB, and the share
that singles out its original. NaN where the audit found no number, so that all clients
send the same metrics, as Flower's aggregation asks."""


def audit_mod(
    audit: Audit,
    truth: Truth,
    *,
    pool: Any = None,
    labels_known: bool = False,
    refuse_above: float | None = None,
    attach: bool = True,
    out: str | os.PathLike[str] | None = None,
    on_entry: Callable[[Entry], None] | None = None,
) -> Mod:
    """Attacks each reply to a training message and holds the result against the data.

    Args:
      audit: what is sent, and the attack.
      truth: the batch behind a reply, called after the client has trained.
      pool: `[M, H, W, C]` normalised inputs of others, for the share of identified
        examples; None tells a batch's examples from one another alone.
      labels_known: whether the attacker is granted the batch's labels.
      refuse_above: dB of the example recovered best from which on the reply is
        replaced by an error, so that nothing of it is sent; so it is where the audit
        fails. None always sends.
      attach: whether to add `PSNR` and `IDENTIFIED` to the reply's metrics. They tell
        the server how well such an attack works.
      out: folder for `run-R-node-N.jsonl`, which `write_report` reads; nothing that
        was recovered is written.
      on_entry: is told every entry.

    Returns:
      A mod of Flower's Message API. Other messages and errors pass it untouched.

    Raises:
      InputError: an argument is out of range.
    """
    if not callable(truth):
        raise InputError(
            f"truth is {type(truth).__name__}; expected a function (message, context) "
            "of the batch that was trained on"
        )
    is_number = isinstance(refuse_above, (int, float)) and not math.isnan(refuse_above)
    if refuse_above is not None and (isinstance(refuse_above, bool) or not is_number):
        raise InputError(f"refuse_above is {refuse_above!r}; expected dB or None")
    folder = None if out is None else check_folder(out)
    knowledge = ["labels"] if labels_known else []

    def mod(
        message: Message, context: Context, call_next: ClientAppCallable
    ) -> Message:
        if message.metadata.message_type.split(".")[0] != MessageType.TRAIN:
            return call_next(message, context)
        server_round, node = round_of(message), context.node_id
        # The client may change the record it was given while it trains.
        record = record_of(message.content, audit.arrays, ArrayRecord)
        before = None if record is None else dict(record)
        reply = call_next(message, context)
        if reply.has_error():
            return reply
        began = time.perf_counter()
        try:
            batch = truth(message, context)
            attempt = audit(
                before,
                reply.content,
                labels=batch.labels if labels_known else None,
                draw=(server_round, node),
            )
            judged = judge(audit.spec, batch, attempt.found.batch, pool)
            seconds = time.perf_counter() - began
            entry = attempted(server_round, node, attempt, seconds, judged)
        # A failed audit must not fail a round, whatever failed.
        except Exception as error:
            seconds = time.perf_counter() - began
            entry = Entry(
                server_round, node, FAILED, seconds=seconds, reason=reason_of(error)
            )
        entry = _refused(entry, refuse_above)
        _log(entry)
        try:
            if folder is not None:
                run, who = message.metadata.run_id, f"node-{node}"
                note(folder, run, who, entry, audit, knowledge)
            if on_entry is not None:
                on_entry(entry)
        except Exception as error:
            log(WARNING, "audit_mod: an entry is lost: %s", reason_of(error))
        if entry.refused:
            error = Error(ErrorCode.MOD_FAILED_PRECONDITION, entry.reason)
            return Message(error, reply_to=message)
        if attach:
            _attach(entry, reply, audit.metrics)
        return reply

    return mod


def round_of(message: Message) -> int:
    """The number of the round that a strategy wrote into its message, or 0."""
    for record in message.content.values():
        if isinstance(record, ConfigRecord):
            found = record.get("server-round")
            if isinstance(found, int):
                return found
    group = message.metadata.group_id or ""
    return int(group) if group.isdecimal() and len(group) < 10 else 0


def _refused(entry: Entry, above: float | None) -> Entry:
    if above is None:
        return entry
    if entry.status == FAILED:
        return entry._replace(
            refused=True, reason=f"the audit failed, nothing is sent: {entry.reason}"
        )
    worst = entry.worst()
    if worst >= above:
        return entry._replace(
            refused=True,
            reason=f"an example can be recovered at {worst:.1f} dB; the limit is "
            f"{above:.1f} dB, nothing is sent",
        )
    return entry


def _log(entry: Entry) -> None:
    shown = "" if entry.psnr is None else f", best example {entry.worst():.1f} dB"
    shown += entry.reason and f"; {entry.reason}"
    log(WARNING if entry.reason else INFO, "audit_mod: %s%s", entry.status, shown)


def _attach(entry: Entry, reply: Message, name: str) -> None:
    values = [value for value in entry.psnr or [] if not math.isnan(value)]
    found: dict[str, MetricRecordValues] = {
        PSNR: sum(values) / len(values) if values else math.nan,
        IDENTIFIED: math.nan if entry.identified is None else entry.identified,
    }
    metrics = record_of(reply.content, name, MetricRecord)
    if metrics is None:
        reply.content[name] = MetricRecord(found)
    else:
        metrics.update(found)
