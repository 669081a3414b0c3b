"""The rows of a sweep: a folder of Parquet files, one row for each example.

Every file is written whole and then named, with the number of the checkpoint that
counts it. What a checkpoint does not count is removed before the sweep goes on, so no
row is lost or doubled, whenever the process was killed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxinv.errors import InputError

if TYPE_CHECKING:
    import pyarrow

_PART = re.compile(r"part-(\d{8})\.parquet")


class Store:
    """The folder of rows."""

    def __init__(self, folder: Path, columns: Mapping[str, str]) -> None:
        """Takes the folder, which need not exist, and the columns with their types."""
        self._folder, self._columns, self._arrow = folder, columns, _pyarrow()

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
                for name, kind in self._columns.items()
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

        wanted = list(self._columns) if columns is None else list(columns)
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
