"""Entries of `client.toml`, one by one: checked, and refused by their name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from jaxinv import defenses
from jaxinv.errors import InputError
from jaxinv.exchange.declared import MAX_TENSORS, checked_name
from jaxinv.local_training import OPTIMIZERS, LocalTraining
from jaxinv.options import check_choice
from jaxinv.target import Spec

MAX_NUMBER = 2**31 - 1
_TRAINING = (
    *("learning_rate", "optimizer", "momentum", "steps", "epochs", "batch_size"),
    "order",
)


def needed(table: Mapping[str, Any], owner: str, key: str, cure: str) -> Any:
    """An entry that there must be; `cure` ends the refusal."""
    if key not in table:
        raise InputError(f"{owner}.{key} is missing; {cure}")
    return table[key]


def spec_of(data: Mapping[str, Any]) -> Spec:
    """The table `data`."""
    shape = needed(data, "data", "shape", "expected [height, width, channels]")
    if not isinstance(shape, list) or not shape or len(shape) > 4:
        raise InputError(
            f"data.shape is {_short(shape)}; expected [height, width, channels]"
        )
    lengths = tuple(whole(n, "data.shape") for n in shape)
    if math.prod(lengths) > 2**26:
        raise InputError("data.shape is too large; expected at most 2^26 numbers")
    classes = whole(
        needed(data, "data", "num_classes", "expected how many classes there are"),
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


def local_of(
    client: Mapping[str, Any], sent: str, examples: int
) -> LocalTraining | None:
    """How the client trained; None where it sent a gradient."""
    if sent == "gradient":
        given = [key for key in _TRAINING if key in client]
        if given:
            raise InputError(
                f"client.{given[0]} is given for a gradient; expected sent = "
                '"delta" or "weights", or no such entry'
            )
        return None
    rate = needed(
        client, "client", "learning_rate", f"expected the step size behind the {sent}"
    )
    check_choice("client.optimizer", client.get("optimizer", "sgd"), OPTIMIZERS)
    check_choice("client.order", client.get("order", "known"), ("known", "shuffled"))
    for key in ("steps", "epochs", "batch_size"):
        if key in client:
            whole(client[key], f"client.{key}")
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


def labels_of(labels: Any, examples: int, classes: int) -> tuple[int, ...] | None:
    """One label for each example."""
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


def defenses_of(words: Any) -> tuple[str, ...]:
    """What the client did to its update."""
    if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
        raise InputError(
            f"client.defenses is {_short(words)}; expected a list such as "
            '["pruning:rate=0.9"]'
        )
    for word in words:
        defenses.asked(word)
    return tuple(words)


def share_of(client: Mapping[str, Any], key: str) -> float | None:
    """A number above 0, 1 at most, or None where there is none."""
    value = client.get(key)
    if value is not None and not (_is_number(value) and 0 < value <= 1):
        raise InputError(
            f"client.{key} is {_short(value)}; expected above 0 and at most 1, such as "
            "PyTorch's 0.1"
        )
    return None if value is None else float(value)


def switch(client: Mapping[str, Any], key: str) -> bool | None:
    """True, false, or None where there is none."""
    value = client.get(key)
    if value is not None and not isinstance(value, bool):
        raise InputError(f"client.{key} is {_short(value)}; expected true or false")
    return value


def arrays_of(names: Any) -> tuple[str, ...]:
    """Names of arrays, each once."""
    if not isinstance(names, list) or len(names) > MAX_TENSORS:
        raise InputError(
            f"client.arrays is {_short(names)}; expected a list of names such as "
            "list(net.state_dict())"
        )
    try:
        found = tuple(checked_name(name) for name in names)
    except InputError as error:
        raise InputError(f"client.arrays: {error}") from None
    for name, times in Counter(found).items():
        if times > 1:
            raise InputError(f"client.arrays holds {name!r} twice; expected it once")
    return found


def named(table: Mapping[str, Any], owner: str, kind: type, what: str) -> dict:
    """A table of any names, whose values are all of one kind."""
    for name, value in table.items():
        if type(value) is not kind:
            raise InputError(f"{owner}.{name} is {_short(value)}; expected {what}")
    return dict(table)


def whole(value: Any, name: str) -> int:
    """A positive integer."""
    if type(value) is not int or not 1 <= value <= MAX_NUMBER:
        raise InputError(f"{name} is {_short(value)}; expected a positive integer")
    return value


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
