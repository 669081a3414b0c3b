"""The rows of a sweep: a folder of Parquet files, one row for each example.

Every file is written whole and then named, with the number of the checkpoint that
counts it. What a checkpoint does not count is removed before the sweep goes on, so no
row is lost or doubled, whenever the process was killed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxinv.errors import InputError

if TYPE_CHECKING:
    import pyarrow

_PART = re.compile(r"part-(\d{8})\.parquet")

COLUMNS = {
    "job": "int64",
    "case": "string",
    "target": "string",
    "data": "string",
    "defense": "string",
    "attack": "string",
    "attacker": "string",
    "options": "string",
    "seed": "int64",
    "batch": "int64",
    "batch_size": "int64",
    "restarts": "int64",
    "iterations": "int64",
    "index": "int64",
    "psnr": "float64",
    "ssim": "float64",
    "mse": "float64",
    "lpips": "float64",
    "rank": "int64",
    "identified": "bool",
    "label_true": "int64",
    "label_found": "int64",
    "score": "float64",
    "status": "string",
    "scores": "list<double>",
    "statuses": "list<int32>",
    "true": "binary",
    "recovered": "binary",
}
"""Name and type of every column. "index" is the example's place in the data, "options"
JSON of what the point of the grid set, "scores" and "statuses" of all restarts, "true"
and "recovered" PNG files."""


class Store:
    """The folder of rows."""

    def __init__(self, folder: Path) -> None:
        """Takes the folder, which need not exist."""
        self._folder, self._arrow = folder, _pyarrow()

    def keep(self, sequence: int) -> None:
        """Removes what checkpoints after `sequence` wrote, and what is half written."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            match = _PART.fullmatch(path.name)
            half = path.name.startswith(".part-")
            if half or (match and int(match[1]) > sequence):
                path.unlink()

    def write(self, sequence: int, rows: Sequence[dict[str, Any]]) -> None:
        """Writes the rows that checkpoint `sequence` will count; none is no file."""
        if not rows:
            return
        import pyarrow.parquet

        table = self._arrow.Table.from_pylist(list(rows), schema=self.schema())
        path = self._folder / f"part-{sequence:08d}.parquet"
        half = path.with_name(f".{path.name}")
        with half.open("wb") as stream:
            pyarrow.parquet.write_table(table, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(half, path)

    def schema(self) -> pyarrow.Schema:
        """Of every file."""
        arrow = self._arrow
        kinds = {
            "list<double>": arrow.list_(arrow.float64()),
            "list<int32>": arrow.list_(arrow.int32()),
        }
        return arrow.schema(
            [
                (name, kinds.get(kind) or arrow.type_for_alias(kind))
                for name, kind in COLUMNS.items()
            ]
        )

    def read(
        self, columns: Sequence[str] | None = None, jobs: Sequence[int] | None = None
    ) -> pyarrow.Table:
        """Rows in the order they were finished.

        Args:
          columns: names to read; None is all.
          jobs: numbers of jobs to read; None is all.
        """
        import pyarrow.parquet

        wanted = list(COLUMNS) if columns is None else list(columns)
        only = None if jobs is None else [("job", "in", list(jobs))]
        tables = [
            pyarrow.parquet.read_table(part, columns=wanted, filters=only)
            for part in sorted(self._folder.glob("part-*.parquet"))
        ]
        if not tables:
            return self.schema().empty_table().select(wanted)
        return self._arrow.concat_tables(tables)


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise InputError(
            "a sweep needs pyarrow for its table; pip install 'jaxinv[sweep]'"
        ) from None
    return pyarrow
