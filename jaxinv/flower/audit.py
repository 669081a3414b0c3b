"""One round's exchange as an observation, and an attack on it, compiled once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict

from jaxinv.attacks.base import Attack, AttackFn, Reconstruction, closed_form
from jaxinv.errors import InputError
from jaxinv.flower.arrays import ToParams, read_arrays, record_of
from jaxinv.local_training import LocalTraining
from jaxinv.observation import SENT, observe
from jaxinv.options import check_choice, check_positive
from jaxinv.release import trained
from jaxinv.run import Runner
from jaxinv.target import Spec


class Attempt(NamedTuple):
    """What an attack on one reply came to."""

    found: Reconstruction
    """By the attacker's own score."""
    num_examples: int
    """N that the attacker took the client to have."""
    seconds: float
    """Wall time of all of it, reading the arrays and compiling included."""
    compile_s: float
    """Of these, spent on tracing and compiling; 0 where a program was at hand."""


class Audit:
    """What clients send, what the attacker is told, and the attack.

    One value serves all rounds and clients: its program is compiled once for each
    number of examples.

    Attributes:
      name: of the attack.
      settings: for the report.
      knowledge: what the attacker is granted, as observations name it.
      spec, arrays, metrics: as they were given.
    """

    def __init__(
        self,
        attack: Attack | AttackFn,
        spec: Spec,
        *,
        to_params: ToParams,
        sent: str = "weights",
        local_training: LocalTraining | None = None,
        num_examples: int | None = None,
        max_examples: int = 256,
        num_restarts: int = 1,
        arrays: str = "arrays",
        returned: str | None = None,
        metrics: str = "metrics",
        weighted_by: str = "num-examples",
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        """Args.

        attack: what `jaxinv.attacks` makes; its steps times `num_restarts` are what
          one reply may cost.
        spec: what an example looks like, `target.spec`.
        to_params: from a record's arrays to parameters, such as `in_order(params)`.
        sent: what a reply's arrays are: the new "weights", which is Flower's habit,
          their "delta", or a "gradient".
        local_training: how clients train, if the attacker is granted it.
        num_examples: N of every client; None takes it from each reply's metrics.
        max_examples: the largest N that is attacked: a reply may say anything.
        num_restarts: starts of the attack.
        arrays: name of the `ArrayRecord` in the messages. Of a `NumPyClient` it is
          "fitins.parameters", its `returned` "fitres.parameters", its `metrics`
          "fitres.num_examples" and its `weighted_by` "num_examples".
        returned: its name in the replies; None where it is the same.
        metrics: name of the `MetricRecord` in the replies.
        weighted_by: name of N in that record.
        seed: of the attack's starts.
        name: of the attack, for the report; None takes the function's that made it.

        Raises:
          InputError: an argument is out of range.
        """
        if not callable(to_params):
            raise InputError(
                f"to_params is {type(to_params).__name__}; expected a function of a "
                "dict of arrays, such as in_order(params)"
            )
        check_choice("sent", sent, SENT)
        check_positive("max_examples", max_examples)
        if num_examples is not None:
            check_positive("num_examples", num_examples)
            if num_examples > max_examples:
                raise InputError(
                    f"num_examples is {num_examples}; expected at most max_examples, "
                    f"{max_examples}"
                )
        if local_training is not None and sent == "gradient":
            raise InputError(
                "local_training is given for a gradient; expected sent='weights' or "
                "sent='delta'"
            )
        made = attack if isinstance(attack, Attack) else closed_form(attack)
        self.spec, self.arrays, self.metrics = spec, arrays, metrics
        self._returned = arrays if returned is None else returned
        self._runner = Runner(made, num_restarts=num_restarts)
        self._to_params, self._sent, self._local = to_params, sent, local_training
        self._num, self._most, self._weighted_by = (
            num_examples,
            max_examples,
            weighted_by,
        )
        self._key = jax.random.key(seed)
        self.name = _name_of(attack) if name is None else name
        self.settings: dict[str, Any] = {
            "attack": self.name,
            "restarts": num_restarts,
            "iterations": made.num_steps,
            "sent": sent,
            "local training": None if local_training is None else repr(local_training),
            "examples of a client": num_examples
            or f"as it says, at most {max_examples}",
            "inputs": list(spec.shape),
            "classes": spec.num_classes,
            "seed": seed,
        }
        self.knowledge = [] if local_training is None else ["local_training"]

    def __call__(
        self,
        before: Mapping[str, Array] | None,
        reply: RecordDict,
        *,
        labels: Any = None,
        draw: tuple[int, int] = (0, 0),
    ) -> Attempt:
        """Attacks one reply.

        Args:
          before: the arrays that the client was sent; None where there were none.
          reply: what it returned.
          labels: `[N]` integers, if the attacker is granted them.
          draw: of the attack's starts, such as round and client.

        Raises:
          InputError: the reply does not fit what was sent or what was declared.
        """
        began, compiled = time.perf_counter(), self._runner.compile_s
        if before is None:
            raise InputError(
                f"arrays is {self.arrays!r}; the client was sent no such record"
            )
        sent = read_arrays(before)
        returned = read_arrays(_record(reply, self._returned), like=sent)
        num = self._examples(reply)
        observation = observe(
            self._to_params(sent),
            trained(self._to_params(returned)),
            num_examples=num,
            spec=self.spec,
            labels=labels,
            sent=self._sent,
            local_training=self._local,
        )
        key = self._key
        for number in draw:
            key = jax.random.fold_in(key, number % 2**32)
        found = self._runner(key, observation).found
        seconds = time.perf_counter() - began
        return Attempt(found, num, seconds, self._runner.compile_s - compiled)

    def _examples(self, reply: RecordDict) -> int:
        if self._num is not None:
            return self._num
        record = record_of(reply, self.metrics, MetricRecord)
        found = None if record is None else record.get(self._weighted_by)
        if not isinstance(found, (int, float)) or found != found or found % 1 != 0:
            raise InputError(
                f"{self._weighted_by} of the reply's {self.metrics!r} is {found!r}; "
                "expected a whole number, or set num_examples"
            )
        if not 1 <= found <= self._most:
            raise InputError(
                f"{self._weighted_by} of the reply is {found}; expected 1 to "
                f"max_examples, {self._most}"
            )
        return int(found)


def _name_of(attack: Attack | AttackFn) -> str:
    """The function whose inside the attack is: `linear_layer.<locals>.run`."""
    inner = attack.finish if isinstance(attack, Attack) else attack
    return getattr(inner, "__qualname__", type(inner).__name__).split(".")[0]


def _record(content: RecordDict, name: str) -> ArrayRecord:
    """The arrays of a reply.

    Raises:
      InputError: there are none of this name.
    """
    found = record_of(content, name, ArrayRecord)
    if found is None:
        names = ", ".join(content.array_records) or "none"
        raise InputError(f"returned is {name!r}; the reply holds {names}")
    return found
