"""A strategy around a strategy, which attacks the replies it aggregates.

It sees what an honest but curious server sees, so it knows no truth: its entries hold
the attacker's own score, which says how well the guess explains the update.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from logging import INFO, WARNING
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from jaxinv.errors import InputError
from jaxinv.flower.arrays import record_of
from jaxinv.flower.audit import Attempt, Audit
from jaxinv.flower.journal import SERVER, note
from jaxinv.flower.record import (
    FAILED,
    NOT_SENT,
    Entry,
    attempted,
    one_line,
    reason_of,
)
from jaxinv.options import check_positive
from jaxinv.reports.folder import check_folder


class AuditedStrategy(Strategy):
    """Any strategy, with an audit of every reply to a training message.

    What it sends, aggregates and returns is the strategy's own. An audit that fails is
    an entry with the status "FAILED"; the round goes on. What it has not itself it
    takes from the strategy, so that its attributes can still be read here.

    Attributes:
      strategy: what is wrapped.
      entries: one for each client and round, in the order of the replies.
    """

    def __init__(
        self,
        strategy: Strategy,
        audit: Audit,
        *,
        every: int = 1,
        out: str | os.PathLike[str] | None = None,
        on_attempt: Callable[[Entry, Attempt], None] | None = None,
    ) -> None:
        """Args.

        strategy: that does the work. It sends one training message to a client and
          round, as Flower's own do.
        audit: what is sent, and the attack; one program serves all clients and rounds
          of as many examples.
        every: audits the first round and then each `every`-th.
        out: folder for `run-R-server.jsonl`, which `write_report` reads; nothing that
          was recovered is written.
        on_attempt: is told every entry of an attack that came to its end, with the
          reconstruction.

        Raises:
          InputError: the strategy is none or has a loop of its own, or an argument is
            out of range.
        """
        if not isinstance(strategy, Strategy):
            raise InputError(
                f"strategy is {type(strategy).__name__}; expected a "
                "flwr.serverapp.strategy.Strategy"
            )
        if type(strategy).start is not Strategy.start:
            raise InputError(
                f"strategy is {type(strategy).__name__}, which has its own start(); "
                "expected one that keeps Flower's, which alone calls what is wrapped"
            )
        check_positive("every", every)
        self.strategy = strategy
        self.entries: list[Entry] = []
        self._audit, self._every, self._on_attempt = audit, every, on_attempt
        self._folder = None if out is None else check_folder(out)
        self._sent: dict[int, dict[str, Array]] = {}

    def __getattr__(self, name: str) -> Any:
        """What only the strategy has."""
        if name == "strategy":
            raise AttributeError(name)
        return getattr(self.strategy, name)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The strategy's messages; what they carry is remembered by client."""
        messages = self.strategy.configure_train(server_round, arrays, config, grid)
        if not self._audited(server_round):
            return messages
        messages, self._sent = list(messages), {}
        for message in messages:
            record = record_of(message.content, self._audit.arrays, ArrayRecord)
            if record is not None:
                self._sent[message.metadata.dst_node_id] = dict(record)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Audits the replies, then aggregates them as the strategy does."""
        if not self._audited(server_round):
            return self.strategy.aggregate_train(server_round, replies)
        replies = list(replies)
        for reply in replies:
            entry = self._entry(server_round, reply)
            said = entry.reason or f"score {entry.score:.3g}"
            level = WARNING if entry.status == FAILED else INFO
            log(level, "audit of node %d: %s, %s", entry.node, entry.status, said)
            self.entries.append(entry)
            self._note(reply.metadata.run_id, entry)
        self._sent = {}
        return self.strategy.aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The strategy's."""
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """The strategy's."""
        return self.strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """The strategy's, and that it is audited."""
        log(INFO, "\t├──> Audited by jaxinv: every %d round(s)", self._every)
        self.strategy.summary()

    def _audited(self, server_round: int) -> bool:
        return (server_round - 1) % self._every == 0

    def _entry(self, server_round: int, reply: Message) -> Entry:
        node = reply.metadata.src_node_id
        if reply.has_error():
            reason = one_line(reply.error.reason)
            return Entry(server_round, node, NOT_SENT, reason=reason)
        began = time.perf_counter()
        try:
            attempt = self._audit(
                self._sent.get(node), reply.content, draw=(server_round, node)
            )
            entry = attempted(server_round, node, attempt, attempt.seconds)
            if self._on_attempt is not None:
                self._on_attempt(entry, attempt)
            return entry
        # A failed audit must not fail a round, whatever failed.
        except Exception as error:
            seconds = time.perf_counter() - began
            reason = reason_of(error)
            return Entry(server_round, node, FAILED, seconds=seconds, reason=reason)

    def _note(self, run: int, entry: Entry) -> None:
        if self._folder is None:
            return
        try:
            note(self._folder, run, SERVER, entry, self._audit)
        except OSError as error:
            log(WARNING, "an entry of the audit is lost: %s", reason_of(error))
