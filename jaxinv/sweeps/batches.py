"""The starts of a group's jobs, as many at a time as the devices like."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxinv.attacks.base import Reconstruction
from jaxinv.errors import InputError
from jaxinv.observation import Observation
from jaxinv.precision import numerics, widened
from jaxinv.program import Program, compile_program
from jaxinv.sweeps.devices import placed
from jaxinv.sweeps.kinds import Searched
from jaxinv.sweeps.kinds.base import REFUSED
from jaxinv.sweeps.plan import Group
from jaxinv.sweeps.winner import Winner


class Start(NamedTuple):
    """One start of one job."""

    job: Searched
    restart: int
    last: bool
    """Whether the job has no other after it."""


class Starts:
    """All starts of a group in their order, and the program that serves them."""

    def __init__(self, group: Group, mesh: Mesh | None, chunk: int | None) -> None:
        """Compiles the program.

        Args:
          group: of the plan.
          mesh: of all devices.
          chunk: starts that advance together; None lets the devices decide.
        """
        first = group.jobs[0]
        self.restarts, self.precision = group.restarts, group.precision
        self.runs = [
            [
                Start(job, restart, restart + 1 == group.restarts)
                for job in jobs
                for restart in range(group.restarts)
            ]
            for jobs in group.runs()
        ]
        self._group, self._mesh, self._own = group, mesh, first.own
        self._seen: dict[int, Observation] = {}
        self._refused: set[int] = set()
        # The plan has tried this one.
        self._any = seen = self._checked(first)
        with numerics(group.precision):
            # As wide as everything is in float64, and as narrow else.
            self._float = jnp.result_type(float)
            self.program: Program = compile_program(
                group.make,
                first.keys(1)[0],
                {name: jax.ShapeDtypeStruct((), self._float) for name in group.open},
                seen,
                num=max(len(run) for run in self.runs),
                chunk=chunk,
                precision=group.precision,
                certifies=group.make(**group.options(first)).certify is not None,
                own=first.own,
                mesh=mesh,
            )

    def batches(self, done: int) -> Iterator[list[Start]]:
        """What advances together, from the start numbered `done` on."""
        chunk = self.program.chunk
        for run in self.runs:
            for low in range(min(done, len(run)), len(run), chunk):
                yield run[low : low + chunk]
            done = max(0, done - len(run))

    def inputs(self, batch: list[Start]) -> tuple[Observation, Any]:
        """What the program takes for a batch: observation, and keys with options.

        A batch that is not full is filled up with its last start.
        """
        jobs = {start.job.number: start.job for start in batch}
        self._seen = {n: self._seen.get(n) or self._observation(jobs[n]) for n in jobs}
        place = {number: i for i, number in enumerate(jobs)}
        rows = [place[start.job.number] for start in batch]
        rows += rows[-1:] * (self.program.chunk - len(rows))
        each = [
            {name: getattr(seen, name) for name in self._own}
            for seen in self._seen.values()
        ]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves)[rows], *each)
        sent = [seen for n, seen in self._seen.items() if n not in self._refused]
        sent = (sent or [self._any])[0]
        shared = dataclasses.replace(sent, **dict.fromkeys(self._own))
        keys = [jobs[n].keys(self.restarts) for n in jobs]
        which = [start.restart for start in batch]
        which += which[-1:] * (self.program.chunk - len(which))
        options = [self._group.options(jobs[n]) for n in jobs]
        start = (
            jnp.stack(keys)[np.asarray(rows), np.asarray(which)],
            {
                name: np.array([one[name] for one in options], self._float)[rows]
                for name in self._group.open
            },
        )
        with numerics(self.precision):
            shared = placed(shared, self._mesh, divided=False)
            own = placed(stacked, self._mesh, divided=True)
            start = placed(start, self._mesh, divided=True)
        return dataclasses.replace(shared, **own), start

    def rows(
        self, job: Searched, winner: Winner, *, pictures: bool
    ) -> list[dict[str, Any]]:
        """Of a job of the last batch; see `Searched.rows`."""
        if job.number in self._refused:
            return [row | {"status": REFUSED} for row in job.blank()]
        sure = self._certified(job, winner.found)
        return job.rows(winner._replace(found=sure), pictures=pictures)

    def _certified(self, job: Searched, found: Reconstruction) -> Reconstruction:
        """What the attack has to say of a job's winner, on the host; see `Attack`."""
        if self.program.certify is None:
            return found
        seen = self._seen[job.number]
        given = self._group.options(job)
        with numerics(self.precision):
            options = {name: jnp.asarray(v, self._float) for name, v in given.items()}
            return jax.device_get(self.program.certify(seen, options, found))

    def _observation(self, job: Searched) -> Observation:
        try:
            return self._checked(job)
        except InputError:
            # Such as a client whose training diverges with this seed alone. Its starts
            # run on another's update, for the batch is one; nobody looks at them.
            self._refused.add(job.number)
            return self._any

    def _checked(self, job: Searched) -> Observation:
        """On the host; what the client does has no part in the attack's precision."""
        seen = jax.tree.map(np.asarray, job.observation())
        with numerics(self.precision):
            return jax.tree.map(np.asarray, widened(self.precision, seen))
