"""`client.toml`: what is known of the client whose update came in."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxinv.errors import InputError, nearest
from jaxinv.exchange.client_entries import (
    arrays_of,
    defenses_of,
    labels_of,
    local_of,
    named,
    needed,
    share_of,
    spec_of,
    switch,
    whole,
)
from jaxinv.local_training import LocalTraining
from jaxinv.observation import SENT
from jaxinv.options import check_choice
from jaxinv.target import Spec

MAX_TEXT = 2**20
"""Bytes of the file."""
REDUCTIONS = ("mean", "sum")
BATCH_NORMS = ("frozen", "batch")
"""Running statistics, as sent; or those of the client's own batch."""

_KEYS = {
    "data": ("shape", "num_classes", "mean", "std"),
    "client": (
        *("sent", "examples", "learning_rate", "optimizer", "momentum", "steps"),
        *("epochs", "batch_size", "order", "reduction", "batch_norm", "labels"),
        *("defenses", "batch_norm_momentum", "batch_stats", "arrays"),
    ),
    "names": None,
    "flatten": None,
}
"""Tables of the file and their keys; None where any name is one."""


@dataclass(frozen=True)
class ClientFile:
    """What is known of a client, checked.

    Attributes:
      spec: what an example looks like, from the table `data`.
      sent: what came back, one of `jaxinv.observation.SENT`.
      examples: N, how many examples the client trained on.
      local: how it trained; None where it sent a gradient.
      reduction: of its loss over a batch, one of `REDUCTIONS`.
      batch_norm: one of `BATCH_NORMS`; None where the model has no batch norm.
      batch_norm_momentum: share of the batch in the running statistics that come
        back, PyTorch's meaning of the word; None is PyTorch's 0.1, and in a file with
        flax's names what the model's layers say.
      batch_stats: whether the batch's own statistics are taken from the running ones;
        None where they follow from them.
      labels: `[N]` if the attacker is to know them, else None.
      defenses: what the client did to its update, as `jaxinv.defenses.asked` reads it.
      arrays: names of the arrays of a file that has none, in its order; () where files
        have names.
      names: module of the file to module of the model, where names and shapes leave
        doubt.
      flatten: channels over which a flatten runs in front of a linear layer.
    """

    spec: Spec
    sent: str
    examples: int
    local: LocalTraining | None = None
    reduction: str = "mean"
    batch_norm: str | None = None
    batch_norm_momentum: float | None = None
    batch_stats: bool | None = None
    labels: tuple[int, ...] | None = None
    defenses: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    flatten: Mapping[str, int] = field(default_factory=dict)


def read_client(path: str | os.PathLike[str]) -> ClientFile:
    """Reads and checks a client's file.

    Raises:
      InputError: it is not there, no TOML, or an entry is missing, unknown or wrong.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise InputError("no such file")
        if path.stat().st_size > MAX_TEXT:
            raise InputError(f"is above the limit of {MAX_TEXT:,} bytes")
        return client_of(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{str(path)!r}: {reason}") from None
    except InputError as error:
        raise InputError(f"{str(path)!r}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r}: no readable TOML ({error})") from None


def client_of(tables: Mapping[str, Any]) -> ClientFile:
    """The same from tables already read.

    Raises:
      InputError: as `read_client`.
    """
    for name, table in tables.items():
        if name not in _KEYS or not isinstance(table, Mapping):
            raise InputError(f"entry {name!r} is unknown; {nearest(name, _KEYS)}")
        for key in table:
            known = _KEYS[name]
            if known is not None and key not in known:
                raise InputError(f"{name}.{key} is unknown; {nearest(key, known)}")
    data, client = tables.get("data", {}), tables.get("client", {})
    sent = needed(client, "client", "sent", "expected one of " + ", ".join(SENT))
    check_choice("client.sent", sent, SENT)
    examples = whole(
        needed(client, "client", "examples", "expected how many the client trained on"),
        "client.examples",
    )
    reduction = client.get("reduction", "mean")
    check_choice("client.reduction", reduction, REDUCTIONS)
    batch_norm = client.get("batch_norm")
    if batch_norm is not None:
        check_choice("client.batch_norm", batch_norm, BATCH_NORMS)
    spec = spec_of(data)
    return ClientFile(
        spec=spec,
        sent=sent,
        examples=examples,
        local=local_of(client, sent, examples),
        reduction=reduction,
        batch_norm=batch_norm,
        batch_norm_momentum=share_of(client, "batch_norm_momentum"),
        batch_stats=switch(client, "batch_stats"),
        labels=labels_of(client.get("labels"), examples, spec.num_classes),
        defenses=defenses_of(client.get("defenses", [])),
        arrays=arrays_of(client.get("arrays", [])),
        names=named(tables.get("names", {}), "names", str, "the model's module"),
        flatten=named(tables.get("flatten", {}), "flatten", int, "channels"),
    )
