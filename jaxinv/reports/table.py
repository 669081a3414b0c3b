"""Columns of the tables that `table.html.j2` draws."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from jaxinv.reports.page import figures, number


class Column(NamedTuple):
    """A column: what stands above it, and how its values are shown."""

    title: str
    """Above it, with the unit."""
    kind: Literal["text", "number"] = "text"
    """Numbers are aligned on the right and sort as numbers."""
    digits: int | None = None
    """After a number's point; None shows three significant figures."""

    def show(self, value: Any) -> str:
        """A value of this column for people; None is n/a."""
        if value is None:
            return "n/a"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if self.kind == "text" or isinstance(value, str):
            return str(value)
        if self.digits is None:
            # Counts and indices in full: 3 significant figures would merge them.
            return str(value) if isinstance(value, int) else figures(value)
        return number(value, self.digits)
