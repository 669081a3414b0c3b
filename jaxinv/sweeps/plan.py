"""The plan of a sweep: its jobs, in groups that share one compiled program."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxinv.attacks.base import Attack
from jaxinv.errors import InputError
from jaxinv.precision import numerics, widened
from jaxinv.sweeps.kinds import KINDS, Job, Point, Searched, Solved
from jaxinv.sweeps.kinds.base import Scenes
from jaxinv.sweeps.spec import Sweep


@dataclass
class Group:
    """Jobs of one compiled program."""

    make: Callable[..., Attack]
    """`(**open) -> Attack`."""
    open: tuple[str, ...]
    """Hyper-parameters that each job sets for itself."""
    jobs: list[Searched] = field(default_factory=list)

    @property
    def num_steps(self) -> int:
        """Of each start; 0 for a closed form."""
        return self.make(**self.options(self.jobs[0])).num_steps

    @property
    def restarts(self) -> int:
        """Starts of each job; a closed form takes one."""
        return self.jobs[0].restarts if self.num_steps else 1

    @property
    def precision(self) -> str | None:
        """Of the matrix products."""
        return self.jobs[0].precision

    def runs(self) -> list[list[Searched]]:
        """The jobs, those together that share all but what each has of its own."""
        found: dict[str, list[Searched]] = {}
        for job in self.jobs:
            found.setdefault(job.sent_to, []).append(job)
        return list(found.values())

    def options(self, job: Searched) -> dict[str, float]:
        """What one job sets."""
        return {name: float(job.numbers[name]) for name in self.open}

    def work(self) -> int:
        """Steps of all starts; a closed form counts one."""
        return len(self.jobs) * self.restarts * max(1, self.num_steps)


@dataclass
class Queue:
    """Jobs that are solved one after another."""

    jobs: list[Solved] = field(default_factory=list)

    precision = None
    open = ()

    def work(self) -> int:
        """One for each."""
        return len(self.jobs)


class Plan(NamedTuple):
    """Everything that is to be run, in its order."""

    groups: list[Group | Queue]
    data: dict[str, str]
    """A fingerprint of every data set: another file under an old name is another
    sweep."""
    sizes: dict[str, int]
    """Examples of every data set, by its name."""

    def fingerprint(self) -> str:
        """Of the order, to which a checkpoint refers."""
        order = [[list(g.open), [job.number for job in g.jobs]] for g in self.groups]
        return hashlib.sha256(json.dumps(order).encode()).hexdigest()

    def num_jobs(self) -> int:
        """Of all groups."""
        return sum(len(group.jobs) for group in self.groups)


def plan(spec: Sweep) -> Plan:
    """All jobs of a sweep in groups, in the order in which they are run.

    Raises:
      InputError: something in it does not fit the data, the target or the attack; all
        of it is tried before anything is run.
      OSError: data cannot be read.
    """
    scenes = KINDS[spec.audit].scenes()
    varied = _varied(spec)
    groups: dict[str, Group | Queue] = {}
    openable: dict[str, tuple[str, ...]] = {}
    for job in _jobs(spec, scenes):
        if isinstance(job, Solved):
            queue = groups.setdefault(job.point.label, Queue())
            assert isinstance(queue, Queue)  # all jobs of a sweep are of one kind
            queue.jobs.append(job)
            continue
        assert isinstance(job, Searched)
        wanted = tuple(n for n in job.numbers if n in varied[job.point.attack])
        alike = _signature(job, wanted)
        if alike not in openable:
            openable[alike] = tuple(n for n in wanted if _can_stay_open(job, n))
        open_ = openable[alike]
        key = _signature(job, open_)
        if key not in groups:
            groups[key] = Group(_traced(job, open_), open_)
        group = groups[key]
        assert isinstance(group, Group)
        group.jobs.append(job)
    return Plan(list(groups.values()), scenes.fingerprints(), scenes.sizes())


def _jobs(spec: Sweep, scenes: Scenes) -> Iterator[Job]:
    numbers = itertools.count()
    for point in spec.points:
        try:
            yield from scenes.jobs(point, numbers)
        except InputError as error:
            raise _named(point, error) from None


def _named(point: Point, error: InputError) -> InputError:
    return InputError(f"{point.label}, {point.attack}, {point.defense}: {error}")


def _varied(spec: Sweep) -> dict[str, set[str]]:
    """By attack, the options that are numbers wherever it is run, and differ."""
    values: dict[str, dict[str, list[Any]]] = {}
    runs: dict[str, int] = {}
    for point in spec.points:
        name = point.attack
        runs[name] = runs.get(name, 0) + 1
        given = getattr(point.config, "attack_options", {})
        for option, value in given.items():
            values.setdefault(name, {}).setdefault(option, []).append(value)
    return {
        name: {
            option
            for option, found in values.get(name, {}).items()
            if len(found) == runs[name]
            and {type(value) for value in found} <= {int, float}
            and len(set(found)) > 1
        }
        for name in runs
    }


def _signature(job: Searched, open_: tuple[str, ...]) -> str:
    """Equal for jobs that one program serves."""
    settled = {k: v for k, v in job.numbers.items() if k not in open_}
    return json.dumps([job.signature(), settled], sort_keys=True, default=str)


def _can_stay_open(job: Searched, name: str) -> bool:
    """Whether the attack computes with the number, and does not decide by it."""
    try:
        _trace(job, (name,))
    except (InputError, TypeError, ValueError):
        # What JAX raises where a traced number decides something is a TypeError.
        return False
    return True


def _traced(job: Searched, open_: tuple[str, ...]) -> Callable[..., Attack]:
    try:
        return _trace(job, open_)
    except InputError as error:
        raise _named(job.point, error) from None


def _trace(job: Searched, open_: tuple[str, ...]) -> Callable[..., Attack]:
    """What makes the attack; tried without computing anything."""
    make = job.maker(open_)
    observation, key = job.observation(), job.keys(1)[0]

    def whole(options: dict[str, jax.Array]) -> Any:
        attack = make(**options)
        state = attack.init(key, observation)
        return attack.step(observation, state), attack.finish(observation, state)

    with numerics(job.precision):
        observation = widened(job.precision, observation)
        jax.eval_shape(whole, {n: jnp.float32(job.numbers[n]) for n in open_})
    return make
