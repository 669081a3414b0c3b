"""The sweep: a spec, a folder, and whoever else runs it, brought together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
from jax.sharding import Mesh

from jaxinv.interrupt import held_interrupt
from jaxinv.sweeps import devices
from jaxinv.sweeps.checkpoint import Checkpoints
from jaxinv.sweeps.folder import claim, locked
from jaxinv.sweeps.kinds import KINDS
from jaxinv.sweeps.plan import plan
from jaxinv.sweeps.running import Running, SweepProgress
from jaxinv.sweeps.spec import Sweep, read_spec
from jaxinv.sweeps.store import Store

if TYPE_CHECKING:
    import pyarrow


class SweepResult(NamedTuple):
    """What came of a sweep."""

    folder: Path
    """Its rows are the Parquet files in `rows`."""
    jobs: int
    """How many there are."""
    finished: bool
    """False where the user stopped it; the same call goes on."""
    seconds: float
    """Spent running, all processes that went on with it after one another."""
    compile_s: float
    """Spent tracing and compiling, likewise."""
    restart_iterations: int
    """Steps of all starts so far; a closed form counts one."""
    sizes: dict[str, int]
    """By the name of the data, how many examples they hold."""
    columns: Mapping[str, str]
    """Of the rows, with their types."""
    notes: tuple[str, ...]
    """What is not as it was when the sweep began, such as a version."""

    def rows(
        self, columns: Sequence[str] | None = None, jobs: Sequence[int] | None = None
    ) -> pyarrow.Table:
        """The rows so far, one for each example.

        Args:
          columns: their names; None is all.
          jobs: numbers of jobs; None is all.
        """
        return Store(self.folder / "rows", self.columns).read(columns, jobs)


def sweep(
    spec: Sweep | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    on_progress: Callable[[SweepProgress], None] | None = None,
    mesh: Mesh | None = None,
    chunk: int | None = None,
) -> SweepResult:
    """Runs a sweep, or goes on with one.

    Args:
      spec: what to sweep, or the TOML file that says it.
      out: the folder of the rows and checkpoints; one that holds an unfinished sweep
        of this spec is gone on with.
      on_progress: called before compiling and after every part; it may raise
        KeyboardInterrupt, which stops the sweep at a checkpoint.
      mesh: of one axis over which the starts are divided; None is all devices of all
        processes. With several processes all call this alike, on a folder they share.
      chunk: starts that advance together; None lets the devices decide.

    Raises:
      InputError: the spec does not fit, or `out` is another sweep's or in use.
      LostProcessError: another of several processes is gone.
      OSError: something cannot be read or written.
    """
    spec = spec if isinstance(spec, Sweep) else read_spec(spec)
    folder = Path(out)
    # Now, not after an hour: it may lack what the rows are written with.
    columns = KINDS[spec.audit].columns
    store = Store(folder / "rows", columns)
    planned = plan(spec)
    mesh = mesh or devices.mesh_of_all()
    settings = spec.settings()
    settings |= {"fingerprints": planned.data, "plan": planned.fingerprint()}
    with contextlib.ExitStack() as held:
        held.enter_context(devices.noticing_loss())
        notes: list[str] = []
        if devices.is_first():
            held.enter_context(locked(folder))
            notes = claim(folder, settings, jax.devices()[0].device_kind)
        devices.together("claimed")
        checkpoints = Checkpoints(folder / "checkpoints")
        held.callback(checkpoints.close)
        running = Running(
            spec, planned.groups, store, checkpoints, mesh, chunk, on_progress
        )
        stop = held.enter_context(held_interrupt())
        finished = running.run(stop)
    return SweepResult(
        folder,
        planned.num_jobs(),
        finished,
        running.at.seconds,
        running.at.compile_s,
        running.at.work,
        planned.sizes,
        columns,
        tuple(notes),
    )
