"""What an audit writes down while a federation runs: a line for each client and round.

A line is appended as soon as its audit has ended, so a run that breaks off loses none.
Each side writes a file of its own, `run-R-server.jsonl` or `run-R-node-N.jsonl`, whose
first line says how it attacks.
"""

from __future__ import annotations

import errno
import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jaxinv.audits.facts import versions
from jaxinv.flower.audit import Audit
from jaxinv.flower.record import Entry, row_of
from jaxinv.reports.folder import jsonable

SERVER = "server"
"""Who writes, where it is no client."""

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)


def note(
    folder: Path,
    run: int,
    who: str,
    entry: Entry,
    audit: Audit,
    knowledge: Sequence[str] = (),
) -> None:
    """Appends an entry.

    Args:
      folder: made if missing.
      run: Flower's number of the run.
      who: `SERVER` or "node-N".
      entry: to write.
      audit: that it is of.
      knowledge: what the attacker is granted beside the audit's.

    Raises:
      OSError: it could not be written.
    """
    path = f"{folder}/run-{run}-{who}.jsonl"
    try:
        file = os.open(path, _APPEND, 0o666)
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(path, _APPEND, 0o666)
    # Without Python's buffers: one write, in half the time.
    try:
        text = json.dumps(row_of(entry)) + "\n"
        if not os.fstat(file).st_size:
            known = [*audit.knowledge, *knowledge]
            facts = {"attack": audit.name, "settings": audit.settings}
            facts |= {"knowledge": known} | _here()
            text = json.dumps(jsonable(facts)) + "\n" + text
        content = text.encode()
        if os.write(file, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(file)


@functools.cache
def _here() -> dict[str, Any]:
    # Looking packages up takes longer than an audit may.
    device = str(jax.devices()[0].device_kind)
    return {"device": device, "versions": versions()}
