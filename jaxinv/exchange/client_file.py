"""`client.toml`: what is known of the client whose update came in."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxinv import defenses
from jaxinv.errors import InputError, nearest
from jaxinv.local_training import OPTIMIZERS, LocalTraining
from jaxinv.observation import SENT
from jaxinv.options import check_choice
from jaxinv.target import Spec

MAX_TEXT = 2**20
"""Bytes of the file."""
MAX_NUMBER = 2**31 - 1
REDUCTIONS = ("mean", "sum")
BATCH_NORMS = ("frozen", "batch")
"""Running statistics, as sent; or those of the client's own batch."""

_KEYS = {
    "data": ("shape", "num_classes", "mean", "std"),
    "client": (
        *("sent", "examples", "learning_rate", "optimizer", "momentum", "steps"),
        *("epochs", "batch_size", "order", "reduction", "batch_norm", "labels"),
        "defenses",
    ),
    "names": None,
    "flatten": None,
}
"""Tables of the file and their keys; None where any name is one."""
_TRAINING = (
    *("learning_rate", "optimizer", "momentum", "steps", "epochs", "batch_size"),
    "order",
)


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
      labels: `[N]` if the attacker is to know them, else None.
      defenses: what the client did to its update, as `jaxinv.defenses.asked` reads it.
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
    labels: tuple[int, ...] | None = None
    defenses: tuple[str, ...] = ()
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
    sent = _needed(client, "client", "sent", "expected one of " + ", ".join(SENT))
    check_choice("client.sent", sent, SENT)
    examples = _whole(
        _needed(
            client, "client", "examples", "expected how many the client trained on"
        ),
        "client.examples",
    )
    reduction = client.get("reduction", "mean")
    check_choice("client.reduction", reduction, REDUCTIONS)
    batch_norm = client.get("batch_norm")
    if batch_norm is not None:
        check_choice("client.batch_norm", batch_norm, BATCH_NORMS)
    spec = _spec(data)
    return ClientFile(
        spec=spec,
        sent=sent,
        examples=examples,
        local=_local(client, sent, examples),
        reduction=reduction,
        batch_norm=batch_norm,
        labels=_labels(client.get("labels"), examples, spec.num_classes),
        defenses=_defenses(client.get("defenses", [])),
        names=_named(tables.get("names", {}), "names", str, "the model's module"),
        flatten=_named(tables.get("flatten", {}), "flatten", int, "channels"),
    )


def _needed(table: Mapping[str, Any], owner: str, key: str, cure: str) -> Any:
    if key not in table:
        raise InputError(f"{owner}.{key} is missing; {cure}")
    return table[key]


def _spec(data: Mapping[str, Any]) -> Spec:
    shape = _needed(data, "data", "shape", "expected [height, width, channels]")
    if not isinstance(shape, list) or not shape or len(shape) > 4:
        raise InputError(
            f"data.shape is {_short(shape)}; expected [height, width, channels]"
        )
    lengths = tuple(_whole(n, "data.shape") for n in shape)
    if math.prod(lengths) > 2**26:
        raise InputError("data.shape is too large; expected at most 2^26 numbers")
    classes = _whole(
        _needed(data, "data", "num_classes", "expected how many classes there are"),
        "data.num_classes",
    )
    given = {}
    for name in ("mean", "std"):
        values = data.get(name, [])
        if not isinstance(values, list) or not all(_is_number(v) for v in values):
            raise InputError(
                f"data.{name} is {_short(values)}; expected a number for each channel"
            )
        given[name] = tuple(float(v) for v in values)
    try:
        return Spec(lengths, classes, **given)
    except InputError as error:
        raise InputError(f"data.{error}") from None


def _local(client: Mapping[str, Any], sent: str, examples: int) -> LocalTraining | None:
    if sent == "gradient":
        given = [key for key in _TRAINING if key in client]
        if given:
            raise InputError(
                f"client.{given[0]} is given for a gradient; expected sent = "
                '"delta" or "weights", or no such entry'
            )
        return None
    rate = _needed(
        client, "client", "learning_rate", f"expected the step size behind the {sent}"
    )
    check_choice("client.optimizer", client.get("optimizer", "sgd"), OPTIMIZERS)
    check_choice("client.order", client.get("order", "known"), ("known", "shuffled"))
    for key in ("steps", "epochs", "batch_size"):
        if key in client:
            _whole(client[key], f"client.{key}")
    try:
        local = LocalTraining(
            learning_rate=rate,
            local_steps=client.get("steps"),
            epochs=client.get("epochs", 1),
            batch_size=client.get("batch_size"),
            optimizer=client.get("optimizer", "sgd"),
            momentum=client.get("momentum", 0.9),
            order="shuffled" if client.get("order") == "shuffled" else None,
        )
        local.shape(examples)
    except InputError as error:
        text = str(error).replace("local_steps", "steps")
        raise InputError(f"client.{text}") from None
    return local


def _labels(labels: Any, examples: int, classes: int) -> tuple[int, ...] | None:
    if labels is None:
        return None
    if not isinstance(labels, list) or len(labels) != examples:
        raise InputError(
            f"client.labels is {_short(labels)}; expected a list of {examples}, one "
            "for each example, or no such entry where the attacker is not to know them"
        )
    for label in labels:
        if type(label) is not int or not 0 <= label < classes:
            raise InputError(
                f"client.labels holds {_short(label)}; expected 0 to {classes - 1}"
            )
    return tuple(labels)


def _defenses(words: Any) -> tuple[str, ...]:
    if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
        raise InputError(
            f"client.defenses is {_short(words)}; expected a list such as "
            '["pruning:rate=0.9"]'
        )
    for word in words:
        defenses.asked(word)
    return tuple(words)


def _named(table: Mapping[str, Any], owner: str, kind: type, what: str) -> dict:
    for name, value in table.items():
        if type(value) is not kind:
            raise InputError(f"{owner}.{name} is {_short(value)}; expected {what}")
    return dict(table)


def _whole(value: Any, name: str) -> int:
    if type(value) is not int or not 1 <= value <= MAX_NUMBER:
        raise InputError(f"{name} is {_short(value)}; expected a positive integer")
    return value


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
