"""The plan of a sweep: its jobs, in groups that share one compiled program."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv import attacks, models
from jaxinv.attacks.base import Attack
from jaxinv.audits.images.attacker import Threat, threats
from jaxinv.audits.images.audit import client_of, spec_of
from jaxinv.audits.images.config import LOCAL, AuditConfig
from jaxinv.audits.images.judge import Judge
from jaxinv.client import Client, simulate
from jaxinv.data import ImageData, load_images
from jaxinv.errors import InputError
from jaxinv.metrics import load_lpips
from jaxinv.observation import Observation
from jaxinv.release import Release
from jaxinv.sweeps.spec import Point, Sweep, described
from jaxinv.target import Batch, Params, Target


class Scene(NamedTuple):
    """What the jobs of one point have in common."""

    data: ImageData
    target: Target
    client: Client
    """With its defences, compiled."""
    release: Release
    """Without them."""
    params: Params
    judge: Judge


class Job(NamedTuple):
    """One update, attacked once by one attacker with all restarts."""

    number: int
    """Its place in the sweep."""
    point: Point
    scene: Scene
    threat: Threat
    batch: int
    """Which batch of the client's examples."""

    @property
    def examples(self) -> np.ndarray:
        """Where the batch's examples stand in the data."""
        config = self.point.config
        start = self.batch * config.batch_size
        return np.arange(start, min(start + config.batch_size, config.num_examples))

    def observation(self) -> Observation:
        """What the attacker sees; the same whenever it is asked for."""
        scene, config = self.scene, self.point.config
        pixels = jnp.asarray(scene.data.x[self.examples], jnp.float32) / 255.0
        labels = jnp.asarray(scene.data.y[self.examples])
        batch = Batch(scene.target.spec.normalise(pixels), labels)
        return simulate(
            jax.random.split(jax.random.key(config.seed))[1],
            scene.target,
            scene.params,
            batch,
            release=scene.client,
            grant=self.threat.granted,
            sent="gradient" if scene.client.local is None else "weights",
        )

    def keys(self, restarts: int) -> jax.Array:
        """`[restarts]`, as in an audit of the same settings."""
        key = jax.random.split(jax.random.key(self.point.config.seed))[1]
        return jax.random.split(jax.random.fold_in(key, self.batch), restarts)


@dataclass
class Group:
    """Jobs of one compiled program."""

    make: Callable[..., Attack]
    """`(**open) -> Attack`."""
    open: tuple[str, ...]
    """Hyper-parameters that each job sets for itself."""
    jobs: list[Job] = field(default_factory=list)

    @property
    def num_steps(self) -> int:
        """Of each start; 0 for a closed form."""
        return self.make(**self.options(self.jobs[0])).num_steps

    @property
    def restarts(self) -> int:
        """Starts of each job; a closed form takes one."""
        return self.jobs[0].point.config.restarts if self.num_steps else 1

    @property
    def precision(self) -> str | None:
        """Of the matrix products."""
        return self.jobs[0].point.config.precision

    def runs(self) -> list[list[Job]]:
        """The jobs, those together that were sent the same params."""
        found: dict[int, list[Job]] = {}
        for job in self.jobs:
            found.setdefault(id(job.scene.params), []).append(job)
        return list(found.values())

    def options(self, job: Job) -> dict[str, float]:
        """What one job sets."""
        given = job.point.config.attack_options
        return {name: float(given[name]) for name in self.open}


def plan(spec: Sweep) -> tuple[list[Group], dict[str, str]]:
    """All jobs of a sweep in groups, in the order in which they are run.

    Args:
      spec: what is asked for.

    Returns:
      The groups, and a fingerprint of every data set: another file under an old name
      is another sweep.

    Raises:
      InputError: something in it does not fit the data, the target or the attack; all
        of it is tried before anything is run.
    """
    scenes = _Scenes()
    varied = _varied(spec)
    groups: dict[str, Group] = {}
    openable: dict[str, tuple[str, ...]] = {}
    for job in _jobs(spec, scenes):
        given = job.point.config.attack_options
        wanted = tuple(n for n in given if n in varied[job.point.config.attack])
        alike = _signature(job, wanted)
        if alike not in openable:
            openable[alike] = tuple(n for n in wanted if _can_stay_open(job, n))
        key = _signature(job, openable[alike])
        if key not in groups:
            groups[key] = _group(job, openable[alike])
        groups[key].jobs.append(job)
    return list(groups.values()), scenes.fingerprints()


def fingerprint(groups: list[Group]) -> str:
    """Of the order in which everything is run, to which a checkpoint refers."""
    order = [[group.open, [job.number for job in group.jobs]] for group in groups]
    return hashlib.sha256(json.dumps(order).encode()).hexdigest()


def _jobs(spec: Sweep, scenes: _Scenes) -> Iterator[Job]:
    number = 0
    for point in spec.points:
        config = point.config
        try:
            scene = scenes.of(config)
            local = config.local_training() is not None
            found = threats(config, scene.target, scene.release, local=local)
        except InputError as error:
            raise _named(point, error) from None
        for threat in found:
            for batch in range(-(-config.num_examples // config.batch_size)):
                yield Job(number, point, scene, threat, batch)
                number += 1


def _named(point: Point, error: InputError) -> InputError:
    return InputError(f"{point.label}, {point.config.attack}, {point.defense}: {error}")


def _varied(spec: Sweep) -> dict[str, set[str]]:
    """By attack, the options that are numbers wherever it is run, and differ."""
    values: dict[str, dict[str, list[Any]]] = {}
    runs: dict[str, int] = {}
    for point in spec.points:
        name = point.config.attack
        runs[name] = runs.get(name, 0) + 1
        for option, value in point.config.attack_options.items():
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


_OF_NO_PROGRAM = ("seed", "num_examples", "withhold", "grant", "lpips")
_OF_NO_PROGRAM += ("sampling_rate", "dp_rounds", "delta")


def _signature(job: Job, open_: tuple[str, ...]) -> str:
    """Equal for jobs that one program serves."""
    fields = described(job.point.config)
    for name in _OF_NO_PROGRAM:
        del fields[name]
    for name in open_:
        del fields["attack_options"][name]
    if job.threat.name == "blind":
        # Who knows no defence runs one program against all of them.
        del fields["defense"], fields["draws"]
    fields |= {"threat": job.threat[:2], "size_of_batch": len(job.examples)}
    return json.dumps(fields, sort_keys=True, default=str)


def _can_stay_open(job: Job, name: str) -> bool:
    """Whether the attack computes with the number, and does not decide by it."""
    try:
        _trace(job, (name,))
    except (InputError, TypeError, ValueError):
        # What JAX raises where a traced number decides something is a TypeError.
        return False
    return True


def _group(job: Job, open_: tuple[str, ...]) -> Group:
    """For jobs such as this one, which is built and traced."""
    try:
        attacks.build(
            job.point.config.attack,
            job.scene.target,
            **job.threat.options(job.point.config),
        )
        return Group(_trace(job, open_), open_)
    except InputError as error:
        raise _named(job.point, error) from None


def _trace(job: Job, open_: tuple[str, ...]) -> Callable[..., Attack]:
    """What makes the attack; tried without computing anything."""
    config = job.point.config
    given = job.threat.options(config)
    settled = {k: v for k, v in given.items() if k not in open_}
    make = attacks.maker(config.attack, job.scene.target, **settled)
    observation, key = job.observation(), job.keys(1)[0]

    def whole(options: dict[str, jax.Array]) -> Any:
        attack = make(**options)
        state = attack.init(key, observation)
        return attack.step(observation, state), attack.finish(observation, state)

    jax.eval_shape(whole, {name: jnp.float32(given[name]) for name in open_})
    return make


_DATA = ("data", "size")
_MODEL = (*_DATA, "target", "target_options", "normalise", "lpips")
_CLIENT = (*_MODEL, "defense", *sorted(LOCAL))


class _Scenes:
    """Data, targets, clients and parameters, each made once."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._data: dict[str, ImageData] = {}

    def of(self, config: AuditConfig) -> Scene:
        """The scene of an audit.

        Raises:
          InputError: a sweep cannot run it.
        """
        if config.halving:
            raise InputError("halving is True; a sweep runs every start to its end")
        if config.precision == "float64":
            raise InputError("precision is 'float64'; expected another in a sweep")
        data = self._once(
            config, _DATA, lambda: load_images(config.data, size=config.size)
        )
        self._data[f"{data.name}, {data.x.shape}"] = data
        if config.num_examples > len(data.x):
            raise InputError(
                f"num_examples is {config.num_examples}; the data holds {len(data.x)}"
            )

        def model() -> tuple[Target, Judge, Any]:
            spec = spec_of(config, data)
            target = models.build(str(config.target), spec, **config.target_options)
            weights = None if config.lpips is None else load_lpips(config.lpips)
            return target, Judge(spec, data, weights), jax.jit(target.init)

        target, judge, init = self._once(config, _MODEL, model)
        key = jax.random.split(jax.random.key(config.seed))[0]
        params = self._once(config, (*_MODEL, "seed"), lambda: init(key))
        release, client = self._once(config, _CLIENT, lambda: client_of(config, target))
        return Scene(data, target, client, release, params, judge)

    def _once(
        self, config: AuditConfig, names: tuple[str, ...], make: Callable[[], Any]
    ) -> Any:
        """What the fields so named decide."""
        fields = described(config)
        at = json.dumps([names, [fields[name] for name in names]], default=str)
        if at not in self._made:
            self._made[at] = make()
        return self._made[at]

    def fingerprints(self) -> dict[str, str]:
        """By what the data are."""
        found = {}
        for name, data in self._data.items():
            digest = hashlib.sha256(np.ascontiguousarray(data.x).data)
            digest.update(np.ascontiguousarray(data.y).data)
            found[name] = digest.hexdigest()
        return found
