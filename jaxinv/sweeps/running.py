"""A sweep under way: group after group, batch after batch, with rows kept on the way.

A batch of starts goes from beginning to end in parts. After a part, when enough time
has passed, what is known is written: first the rows of the jobs that ended, then a
checkpoint that counts them, with the states of the starts that are under way. Whatever
moment the process is killed, the next one goes on from the last checkpoint, with the
same numbers in the same program, and so comes to the same bits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, SingleDeviceSharding

from jaxinv.attacks.base import Reconstruction
from jaxinv.errors import InputError
from jaxinv.precision import numerics
from jaxinv.program import Program
from jaxinv.sweeps import devices
from jaxinv.sweeps.batches import Start, Starts
from jaxinv.sweeps.checkpoint import Checkpoints
from jaxinv.sweeps.plan import Group, Queue
from jaxinv.sweeps.position import Position, SweepProgress
from jaxinv.sweeps.spec import Sweep
from jaxinv.sweeps.store import Store
from jaxinv.sweeps.winner import Winner, better

PARTS = 20
"""Into how many a run of all steps is cut; the host looks after each."""

BETWEEN_BATCHES_S = 2.0
"""Seconds after which the end of a batch is written, where `checkpoint_s` is longer."""

BETWEEN_BATCHES = 0.01
"""Likewise, as a share of the time that the sweep has run."""

_GROUPS_BETWEEN = 8
"""After so many the compiled programs are let go. A process can map only so many:
beyond that LLVM finds no memory, whatever is free."""

_POINTS_BETWEEN = 8
"""Likewise in a queue, whose jobs share programs only within a point."""


class Running:
    """A sweep under way: where it is, and what is not yet written."""

    def __init__(
        self,
        spec: Sweep,
        groups: list[Group | Queue],
        store: Store,
        checkpoints: Checkpoints,
        mesh: Mesh | None,
        chunk: int | None,
        on_progress: Callable[[SweepProgress], None] | None,
    ) -> None:
        self._spec, self._groups, self._mesh = spec, groups, mesh
        self._wanted, self._tell = chunk, on_progress or (lambda progress: None)
        self._store, self._checkpoints = store, checkpoints
        self._devices = 1 if mesh is None else mesh.size
        last = self._checkpoints.last(self._readable)
        self._sequence, found, self._read = last or (0, {}, {})
        self.at = Position(**found)
        if devices.is_first():
            self._store.keep(self._sequence)
        self._stop = threading.Event()
        self._rows: list[dict[str, Any]] = []
        self._winner: Winner | None = None
        self._written = self._began = time.monotonic()
        self._best = float("nan")
        self._total = sum(group.work() for group in groups)
        self._jobs = sum(len(group.jobs) for group in groups)

    def run(self, stop: threading.Event) -> bool:
        """Goes to the end, or to where the user stops it: then False."""
        self._stop, began = stop, self.at.group
        for number in range(self.at.group, len(self._groups)):
            group = self._groups[number]
            run = self._run_queue if isinstance(group, Queue) else self._run_group
            if not run(group):  # pyright: ignore[reportArgumentType]
                return False
            self.at = self.at._replace(group=number + 1, done=0, chunk=None)
            if number % _GROUPS_BETWEEN == _GROUPS_BETWEEN - 1:
                jax.clear_caches()
        if began < len(self._groups):
            self._save(None)
        return True

    def _run_group(self, group: Group) -> bool:
        self._show("compile", 0)
        same = self.at.devices == self._devices
        chunk = self.at.chunk if same and self._wanted is None else self._wanted
        began = time.monotonic()
        starts = Starts(group, self._mesh, chunk)
        # One may have to compile what another finds in its cache.
        devices.together("compiled")
        states = self._resumed(starts)
        self.at = self.at._replace(
            chunk=starts.program.chunk,
            devices=self._devices,
            steps=0 if states is None else self.at.steps,
            compile_s=self.at.compile_s + time.monotonic() - began,
        )
        self._began = time.monotonic()
        for batch in starts.batches(self.at.done):
            inputs = starts.inputs(batch)
            with numerics(group.precision):
                found = self._advanced(group, starts.program, inputs, states, batch)
            if found is None:
                return False
            states = None
            self._take(starts, batch, found)
            done = max(1, group.num_steps) * len(batch)
            self.at = self.at._replace(
                steps=0, done=self.at.done + len(batch), work=self.at.work + done
            )
            self._show("run", 0)
            if not self._look(None):
                return False
        return True

    def _advanced(
        self, group: Group, program: Program, inputs: Any, states: Any, batch: list
    ) -> Reconstruction | None:
        """A batch from where it is to its end; None where the user stops it."""
        observation, start = inputs
        if states is None:
            states = program.init(observation, start)
        for end in _ends(group.num_steps):
            if end <= self.at.steps:
                continue
            count = jnp.asarray(end - self.at.steps, jnp.int32)
            count = devices.placed(count, self._mesh, divided=False)
            states, scores = program.advance(observation, states, count)
            scores = devices.gathered(scores)[: len(batch)]
            self._best = float(np.nanmin(np.append(scores, np.inf)))
            self.at = self.at._replace(steps=end)
            self._show("run", end * len(batch))
            if end < group.num_steps and not self._look(states):
                return None
        return devices.gathered(program.finish(observation, states))

    def _take(self, starts: Starts, batch: list[Start], found: Reconstruction) -> None:
        """Counts the starts of a batch, and judges the jobs that ended with it."""
        for number, start in enumerate(batch):
            one = jax.tree.map(lambda leaf, n=number: np.asarray(leaf[n]), found)
            self._winner = better(self._winner, one)
            if start.last:
                if devices.is_first():
                    pictures = self._spec.pictures
                    rows = starts.rows(start.job, self._winner, pictures=pictures)
                    self._rows += rows
                self._winner = None
                self.at = self.at._replace(jobs=self.at.jobs + 1)

    def _run_queue(self, queue: Queue) -> bool:
        """The jobs one after another, each process those of its own."""
        self._began, self._best = time.monotonic(), float("nan")
        pictures, each = self._spec.pictures, jax.process_count()
        point, points = None, 0
        for low in range(self.at.done, len(queue.jobs), each):
            self._show("run", 0)
            batch = queue.jobs[low : low + each]
            if batch[0].point is not point:
                point, points = batch[0].point, points + 1
                if points > _POINTS_BETWEEN:
                    jax.clear_caches()
                    points = 1
            mine = batch[jax.process_index() :][:1]
            rows = [row for job in mine for row in job.solve(pictures=pictures)]
            self._rows += devices.exchanged(rows)
            self.at = self.at._replace(
                done=low + len(batch),
                jobs=self.at.jobs + len(batch),
                work=self.at.work + len(batch),
            )
            self._show("run", 0)
            if not self._look(None):
                return False
        return True

    def _look(self, states: Any) -> bool:
        """Writes what there is where that is due; False where the user stops it."""
        now = time.monotonic()
        self.at = self.at._replace(seconds=self.at.seconds + now - self._began)
        self._began = now
        stopping = devices.agreed(self._stop.is_set)
        every = self._spec.checkpoint_s
        if states is None:
            # There are no states to write, and a whole batch to lose; yet a week of
            # short ones is not to leave a file for every two seconds.
            soon = max(BETWEEN_BATCHES_S, self.at.seconds * BETWEEN_BATCHES)
            every = min(every, soon)
        late = now - self._written >= every
        if stopping or devices.agreed(lambda: late):
            self._save(states)
        return not stopping

    def _save(self, states: Any) -> None:
        self._sequence += 1
        if devices.is_first():
            self._store.write(self._sequence, self._rows)
        winner = self._winner
        scores = () if winner is None else tuple(_finite(s) for s in winner.scores)
        statuses = () if winner is None else tuple(winner.statuses)
        self.at = self.at._replace(scores=scores, statuses=statuses)
        items = {
            "states": [] if states is None else devices.plain(states),
            "winner": [] if winner is None else jax.tree.leaves(winner.found),
        }
        self._checkpoints.save(self._sequence, self.at._asdict(), items)
        self._rows, self._written = [], time.monotonic()

    def _readable(self, position: dict[str, Any]) -> dict[str, Any]:
        """Which arrays of a checkpoint can be gone on with here."""
        items: dict[str, Any] = {"winner": None}
        if position["devices"] == self._devices:
            # Without a place orbax would want the very device that wrote them.
            here = SingleDeviceSharding(jax.local_devices()[0])
            items["states"] = devices.sharding(self._mesh, divided=True) or here
        return items

    def _resumed(self, starts: Starts) -> Any:
        """The states of the checkpoint, if they are of this program's shape."""
        read, self._read = self._read, {}
        if "winner" in read:
            structure = jax.tree.structure(starts.program.found)
            leaves = [np.asarray(leaf) for leaf in read["winner"]]
            if structure.num_leaves != len(leaves):
                raise InputError(
                    "the checkpoint is of another version of this attack, in the "
                    "middle of a job; expected the version it was begun with"
                )
            scores = [np.inf if s is None else s for s in self.at.scores]
            found = jax.tree.unflatten(structure, leaves)
            self._winner = Winner(found, scores, list(self.at.statuses))
        if "states" not in read or self.at.chunk != starts.program.chunk:
            return None
        try:
            with numerics(starts.precision):
                return devices.from_plain(read["states"], starts.program.states)
        except ValueError:
            # Of another version: the batch under way begins again.
            return None

    def _show(self, phase: str, done: int) -> None:
        try:
            self._tell(
                SweepProgress(
                    self.at.jobs,
                    self._jobs,
                    self.at.work + done,
                    self._total,
                    self._best,
                    phase,
                )
            )
        except KeyboardInterrupt:
            self._stop.set()


def _ends(num_steps: int) -> list[int]:
    part = max(1, -(-num_steps // PARTS))
    return [*range(part, num_steps, part), num_steps] if num_steps else []


def _finite(score: float) -> float | None:
    return float(score) if np.isfinite(score) else None
