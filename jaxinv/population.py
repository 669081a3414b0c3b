"""Many starts of one attack on their way through a program that holds a few.

Starts advance in batches, one batch after the other from beginning to end; where some
are to be dropped on the way, all of a group together from rung to rung.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.attacks.base import Reconstruction, Status
from jaxinv.halving import Halving
from jaxinv.history import NOWHERE, History, Spread
from jaxinv.observation import Observation
from jaxinv.program import Program


class Run(NamedTuple):
    """One finished (or interrupted) run."""

    found: Reconstruction
    """The best start by the attacker's score, on the host. Its stats are joined by
    "scores" and "statuses" `[restarts]`, "steps_taken" `[restarts]` and "kept", the
    best reconstructions (leaves `[keep, ...]`, stats "start" `[keep]`)."""
    steps: np.ndarray
    """`[records]` ints, steps a start had taken at each record."""
    scores: np.ndarray
    """`[records]` the score there of the best start so far."""
    seconds: float
    """Wall time without compilation."""
    interrupted: bool
    """Whether the user stopped it."""
    spread: Spread = NOWHERE
    """Of all starts' scores at each record."""

    @property
    def restart_iterations(self) -> int:
        """Steps taken by all starts together."""
        return int(np.sum(self.found.stats["steps_taken"]))


class Population:
    """What is known of each start, and the best reconstructions so far."""

    def __init__(
        self,
        program: Program,
        observation: Observation,
        keys: jax.Array,
        options: dict[str, np.ndarray],
        ends: list[int],
        keep: int,
    ) -> None:
        """Takes the starts, none of which has begun.

        Args:
          program: compiled for some of them.
          observation: what they attack.
          keys: `[n]`, one for each.
          options: arrays `[n]` by name of a hyper-parameter.
          ends: numbers of steps at which the host looks, ascending; the last ends it.
          keep: how many reconstructions to keep.
        """
        self._program, self._observation = program, observation
        self._seen = jax.device_put(observation, program.shared)
        self._starts, self._keep = (keys, options), keep
        num = len(keys)
        self.scores = np.full(num, np.inf)
        self.statuses = np.full(num, int(Status.INTERRUPTED), np.int32)
        self.steps_taken = np.zeros(num, np.int64)
        self._ends, self._history = ends, History(num, ends)
        self._kept: list[tuple[float, int, Reconstruction]] = []

    def run(
        self,
        group: np.ndarray,
        halving: Halving | None,
        record: Callable[[int, float], bool],
    ) -> None:
        """Takes some starts to the end, or to where the user stops them.

        Args:
          group: `[n]` indices of the starts.
          halving: which of the group are dropped on the way.
          record: told (mean steps, best score); True stops.
        """
        program, ends, done = self._program, self._ends, 0
        rungs = set() if halving is None else set(halving.rungs(ends[-1]))
        batches = [
            (ids, program.init(self._seen, self._filled(ids)))
            for ids in _split(group, program.chunk)
        ]
        for end in ends:
            count = jax.device_put(np.int32(end - done), program.shared)
            # All are sent off before the first score is waited for.
            advanced = [
                (ids, *program.advance(self._seen, states, count))
                for ids, states in batches
            ]
            batches = [(ids, states) for ids, states, _ in advanced]
            for ids, states, scores in advanced:
                # Fetched together, so that the host waits once.
                noted = getattr(states[1], "diverged", np.zeros(len(ids), bool))
                scores, diverged = jax.device_get((scores, noted))
                self.scores[ids] = _losing_nan(scores)[: len(ids)]
                self.steps_taken[ids] = end
                self._history.note(end, ids, self.scores[ids], diverged[: len(ids)])
            done = end
            if record(int(self.steps_taken.mean()), float(self.scores.min())):
                break
            if halving is not None and end in rungs:
                batches = self._survivors(batches, halving)
        for ids, states in batches:
            self._finish(ids, program.finish(self._seen, states))

    def _filled(self, ids: np.ndarray) -> Any:
        """Keys and options of some starts, the last one repeated to fill the batch."""
        ids = np.pad(ids, (0, self._program.chunk - len(ids)), mode="edge")
        starts = jax.tree.map(lambda x: x[ids], self._starts)
        return jax.device_put(starts, self._program.divided)

    def _survivors(self, batches: list[Any], halving: Halving) -> list[Any]:
        ids = np.concatenate([ids for ids, _ in batches])
        order = np.argsort(self.scores[ids], kind="stable")
        chosen = np.sort(order[: halving.survivors(len(ids))])
        dropped = np.setdiff1d(ids, ids[chosen])
        self.statuses[dropped] = int(Status.DROPPED)
        # Where each survivor stands among the batches, filled up as they are.
        chunk = self._program.chunk
        rows = np.concatenate(
            [np.arange(len(i)) + n * chunk for n, (i, _) in enumerate(batches)]
        )
        together = jax.tree.map(
            lambda *leaves: jnp.concatenate(leaves), *(states for _, states in batches)
        )
        regrouped = []
        for part in _split(chosen, chunk):
            filled = np.pad(rows[part], (0, chunk - len(part)), mode="edge")
            states = jax.tree.map(lambda x, f=filled: x[f], together)
            states = jax.device_put(states, self._program.divided)
            regrouped.append((ids[part], states))
        return regrouped

    def _finish(self, ids: np.ndarray, found: Reconstruction) -> None:
        found = jax.device_get(found)
        self.scores[ids] = _losing_nan(found.score)[: len(ids)]
        self.statuses[ids] = found.status[: len(ids)]
        for row, start in enumerate(ids.tolist()):
            one = jax.tree.map(lambda leaf, r=row: np.asarray(leaf[r]), found)
            self._kept.append((float(self.scores[start]), start, one))
        self._kept.sort(key=lambda entry: entry[:2])
        del self._kept[self._keep :]

    def result(self, num_steps: int, seconds: float, interrupted: bool) -> Run:
        """The run, all on the host."""
        score, best, winner = self._kept[0]
        whole = self.steps_taken == num_steps
        cut = (self.statuses == Status.OK) & ~whole
        self.statuses[cut] = int(Status.INTERRUPTED)
        kept = jax.tree.map(
            lambda *leaves: np.stack(leaves), *(one for _, _, one in self._kept)
        )
        if self._program.certify is not None:
            options = jax.tree.map(lambda x: jnp.asarray(x[best]), self._starts)[1]
            certified = self._program.certify(self._observation, options, winner)
            winner = jax.device_get(certified)
        status = winner.status
        if interrupted and status == Status.OK:
            status = np.asarray(Status.INTERRUPTED, np.int32)
        start = np.array([start for _, start, _ in self._kept])
        stats = {
            **winner.stats,
            "scores": self.scores,
            "statuses": self.statuses,
            "steps_taken": self.steps_taken,
            "kept": dataclasses.replace(kept, stats={"start": start}),
        }
        score = np.asarray(score, winner.score.dtype)
        found = dataclasses.replace(winner, score=score, status=status, stats=stats)
        steps, best = self._history.best()
        return Run(found, steps, best, seconds, interrupted, self._history.spread())


def _split(ids: np.ndarray, size: int) -> list[np.ndarray]:
    return [ids[low : low + size] for low in range(0, len(ids), size)]


def _losing_nan(scores: Any) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    return np.where(np.isnan(scores), np.inf, scores)
