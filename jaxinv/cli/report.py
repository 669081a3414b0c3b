"""`jaxinv report`: the reports of several runs side by side."""

from __future__ import annotations

import argparse
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxinv.cli.running import quieten_backends

_ABOUT = "put the reports of several runs side by side"


def add_to(commands: Any) -> None:
    """Adds the command to the top parser."""
    parser = commands.add_parser(
        "report",
        help=_ABOUT,
        description="Reads report.json of several audits and writes compare.html and "
        "compare.json: verdicts, the settings that differ, results and pictures side "
        "by side.",
        epilog="For models, data and systems you are entitled to test.",
        allow_abbrev=False,
    )
    text = "of audits, two or more, as --out named them"
    parser.add_argument("folders", metavar="DIR", nargs="+", help=text)
    text = "where the comparison goes (default: jaxinv-compare)"
    parser.add_argument("--out", metavar="DIR", default="jaxinv-compare", help=text)
    text = "print nothing but errors"
    parser.add_argument("--quiet", action="store_true", help=text)
    parser.set_defaults(command=_report)


def _report(args: argparse.Namespace) -> int:
    quieten_backends()
    from jaxinv.reports.folder import check_folder
    from jaxinv.reports.side_by_side import FILES, read_reports, write_comparison

    folder = check_folder(args.out, FILES)
    runs = read_reports(args.folders)
    page = write_comparison(runs, folder)
    if not args.quiet:
        console = Console()
        table = Table(box=SIMPLE)
        for name in ("run", "folder", "verdict"):
            table.add_column(name, overflow="fold")
        for run in runs:
            words = str(run.folder), run.report["verdict"]["headline"]
            table.add_row(run.label, *(Text(_printable(word)) for word in words))
        console.print(table)
        console.print(Text(f"Report: {page}"), soft_wrap=True)
    return 0


def _printable(text: str) -> str:
    """Without what could steer a terminal: a report may be anyone's."""
    return "".join(c if c.isprintable() else "?" for c in text)
