"""Running an attack from the host: many starts, compiled once, interruptible.

`jaxinv.iterate` is one pure function and right inside jit, vmap and grad. A person who
asks for thousands of starts wants them to fit in memory, to see progress, to stop early
and to keep what there is. A `Runner` compiles one program for a batch of starts, as
many as the device likes, and sends batch after batch through it; the host sees a score
now and then, never at every step.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxinv.attacks.base import Attack
from jaxinv.errors import InputError
from jaxinv.halving import Halving
from jaxinv.interrupt import held_interrupt
from jaxinv.memory import states_at_once
from jaxinv.observation import Observation
from jaxinv.population import Population
from jaxinv.population import Run as Run
from jaxinv.precision import check_precision, numerics, widened
from jaxinv.program import Program, compile_program


class Runner:
    """An attack compiled for observations of one shape.

    Where this process has several devices, all of them advance starts, each its own
    share; a single start stays on one, and so does all within `jax.default_device`.

    Attributes:
      compile_s: seconds spent tracing and compiling, all shapes together.
      chunk: starts that advance together; None before the first compilation.
    """

    def __init__(
        self,
        attack: Attack | Callable[..., Attack],
        *,
        num_restarts: int = 1,
        chunk: int | None = None,
        num_records: int = 50,
        keep: int = 1,
        options: Mapping[str, Any] | None = None,
        halving: Halving | None = None,
        precision: str | None = None,
    ) -> None:
        """Args.

        attack: of one start; or, with `options`, what makes one: `(**options)`.
        num_restarts: how many starts. The program is compiled for `chunk` of them and
          serves any number; the last batch is filled up with starts that are dropped.
        chunk: starts that advance together, on all devices; None takes as many as they
          like (`jaxinv.memory`).
        num_records: into how many parts a run is cut; the host sees each end.
        keep: how many reconstructions to keep, the best first.
        options: arrays `[num_restarts]`, by name of a hyper-parameter: each start has
          its own, and all share one program. Only what the attack computes with can
          vary (a step size, a weight), not what shapes it.
        halving: drops starts that lag behind; it changes what work is done.
        precision: of the matrix products, one of `jaxinv.precision.PRECISIONS`; None
          leaves JAX's setting.
        """
        counts = {"num_restarts": num_restarts, "num_records": num_records}
        for name, value in {**counts, "chunk": 1 if chunk is None else chunk}.items():
            if value < 1:
                raise InputError(f"{name} is {value}; expected 1 or more")
        if not 1 <= keep <= num_restarts:
            raise InputError(
                f"keep is {keep}; expected 1 to the {num_restarts} restarts"
            )
        self._options = {k: np.asarray(v) for k, v in (options or {}).items()}
        for name, values in self._options.items():
            if values.shape[:1] != (num_restarts,):
                raise InputError(
                    f"options[{name!r}] has shape {values.shape}; expected an entry "
                    f"for each of the {num_restarts} restarts"
                )
        if callable(attack) and not isinstance(attack, Attack):
            self._make = attack
        elif options:
            raise InputError(
                "options are given for a finished attack; expected what makes one, "
                "such as functools.partial(inverting_gradients, target)"
            )
        else:
            self._make = lambda: attack
        first = {k: v[0] for k, v in self._options.items()}
        made = self._make(**first)
        self.num_steps, self._certifies = made.num_steps, made.certify is not None
        self._num, self._wanted, self._keep = num_restarts, chunk, keep
        self._halving, self._precision = halving, check_precision(precision)
        part = max(1, -(-self.num_steps // num_records))
        ends = set(range(part, self.num_steps, part)) | {self.num_steps}
        if halving is not None:
            ends |= set(halving.rungs(self.num_steps))
        self._ends = sorted(end for end in ends if end > 0)
        self._compiled: dict[Any, Program] = {}
        self.compile_s, self.chunk = 0.0, None

    def compile(self, key: jax.Array, observation: Observation) -> Program:
        """The program for this shape of observation, made at the first call."""
        shape = (
            jax.tree.structure(observation),
            *((x.shape, x.dtype) for x in (key, *jax.tree.leaves(observation))),
        )
        if shape not in self._compiled:
            start = time.perf_counter()
            with numerics(self._precision):
                observation = widened(self._precision, observation)
                options = {
                    name: jax.ShapeDtypeStruct(v.shape[1:], jnp.result_type(v))
                    for name, v in self._options.items()
                }
                self._compiled[shape] = compile_program(
                    self._make,
                    key,
                    options,
                    observation,
                    num=self._num,
                    chunk=self._wanted,
                    precision=self._precision,
                    certifies=self._certifies,
                    mesh=_local_mesh(min(self._num, self._wanted or self._num)),
                )
            self.compile_s += time.perf_counter() - start
        self.chunk = self._compiled[shape].chunk
        return self._compiled[shape]

    def __call__(
        self,
        key: jax.Array,
        observation: Observation,
        on_record: Callable[[int, float], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Run:
        """Runs the attack to its end, or to the user's interrupt.

        Args:
          key: split into one for each start; start i is the same however many there
            are, and the same as in `jaxinv.restarts`.
          observation: of any shape; a new one is compiled for first.
          on_record: told (steps, score) after each part: the steps taken so far in the
            mean over all starts, and the best score; it may raise KeyboardInterrupt.
            That, or Ctrl-C at any time, ends the run at the end of the part with the
            best so far; a second Ctrl-C is not held back.
          stop: ends the run likewise when set, for a caller that holds Ctrl-C itself.
        """
        program = self.compile(key, observation)
        held = held_interrupt() if stop is None else contextlib.nullcontext(stop)
        with numerics(self._precision):
            observation = widened(self._precision, observation)
            began = time.perf_counter()
            keys = jax.random.split(key, self._num)
            starts = Population(
                program, observation, keys, self._options, self._ends, self._keep
            )
            with held as asked:

                def record(steps: int, score: float) -> bool:
                    try:
                        if on_record is not None:
                            on_record(steps, score)
                    except KeyboardInterrupt:
                        asked.set()
                    return asked.is_set()

                size = program.chunk
                if self._halving is not None:
                    size = max(size, states_at_once(program.state_bytes))
                for low in range(0, self._num, size):
                    group = np.arange(low, min(low + size, self._num))
                    starts.run(group, self._halving, record)
                    if asked.is_set():
                        break
                interrupted = asked.is_set()
            seconds = time.perf_counter() - began
            return starts.result(self.num_steps, seconds, interrupted)


def _local_mesh(most: int) -> Mesh | None:
    """Some of this process's devices; None where one is to do it all."""
    devices = jax.local_devices()[:most]
    chosen = jax.config.jax_default_device  # pyright: ignore
    if len(devices) < 2 or chosen is not None:
        return None
    return Mesh(np.array(devices), ("starts",))
