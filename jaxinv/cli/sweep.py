"""`jaxinv sweep`: its options, and the table it prints."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxinv.cache import use_cache
from jaxinv.cli.arguments import whole
from jaxinv.cli.progress import reporting
from jaxinv.cli.running import quieten_backends
from jaxinv.errors import InputError
from jaxinv.reports.folder import check_folder

_MOST_PRINTED = 40
"""Lines; the report has all."""

_PRINTED = ("identified", "guess_exact", "unique")
"""Beside what the audit is measured by."""


def add_to(commands: Any) -> None:
    """Adds the command to the top parser."""
    parser = commands.add_parser(
        "sweep",
        help="run many audits as one: resumable, on many devices",
        description="Runs every case under every defence, by every attack, for every "
        "point of their grids and every seed, as a TOML file says. Killed at any "
        "moment and started again, it goes on. Writes rows/*.parquet with a row for "
        "each example, report.html and report.json.",
        epilog="For models, data and systems you are entitled to test.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("spec", metavar="SPEC.toml", help="what to sweep, see examples/sweep.toml")
    text = "the rows, checkpoints and report; an unfinished sweep there goes on"
    add("--out", metavar="DIR", required=True, help=text)
    text = "starts that advance together on all devices (default: as many as fit)"
    add("--chunk", metavar="N", type=whole(1), help=text)
    text = "one of several processes; SLURM, Kubernetes and TPU pods say which"
    add("--distributed", action="store_true", help=text)
    text = "of the first process, where nobody says"
    add("--coordinator", metavar="HOST:PORT", help=text)
    add("--processes", metavar="N", type=whole(1), help="how many, likewise")
    add("--process", metavar="I", type=whole(0), help="which one this is, likewise")
    text = "compile anew instead of keeping programs in the user's cache folder"
    add("--no-cache", action="store_true", help=text)
    add("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(command=_sweep)


def _sweep(args: argparse.Namespace) -> int:
    folder = check_folder(args.out)
    told = (args.coordinator, args.processes, args.process)
    if any(one is not None for one in told) and None in told:
        raise InputError(
            "coordinator, processes and process belong together; expected all three"
        )
    quieten_backends()
    from jaxinv.reports.sweep import judge, write_report
    from jaxinv.sweeps import devices, read_spec, record, sweep

    if args.distributed or args.coordinator:
        devices.join(*told)
    if not args.no_cache:
        use_cache()
    spec, quiet = read_spec(args.spec), args.quiet or not devices.is_first()
    console = Console(stderr=True)
    try:
        if quiet:
            result = sweep(spec, folder, chunk=args.chunk)
        else:
            with reporting(console) as on_progress:
                result = sweep(spec, folder, on_progress=on_progress, chunk=args.chunk)
    except devices.LostProcessError as error:
        print(f"jaxinv: {error}", file=sys.stderr, flush=True)
        # Not sys.exit: JAX would wait a minute for the lost process, and then abort.
        os._exit(3)
    if not devices.is_first():
        return 0 if result.finished else 130
    found = record(result, spec, args.spec)
    page = write_report(found, folder)
    if not quiet:
        for note in result.notes:
            console.print(Text(f"note: {note}; digits may differ from here on"))
        _print(Console(), found.report)
        print(judge(found.report).headline)
        Console().print(Text(f"Report: {page}"), soft_wrap=True)
    if not result.finished:
        console.print("jaxinv: stopped; the same command goes on")
    return 0 if result.finished else 130


def _print(console: Console, report: dict[str, Any]) -> None:
    from jaxinv.reports.sweep.measures import measure_of

    measure = measure_of(report)
    printed = measure.value, *(x for x in measure.of_line if x.name in _PRINTED)
    table = Table(box=SIMPLE)
    table.add_column("case, defence", overflow="fold")
    table.add_column("attack, attacker", no_wrap=True)
    for shown in printed:
        table.add_column(shown.column.title, justify="right")
    table.add_column(f"{report['unit']}s", justify="right")
    for line in report["lines"][:_MOST_PRINTED]:
        # Names of files and classes are text, whatever brackets they hold.
        where = Text(f"{line['case']}, {line['defense']}")
        how = [f"{line['attack']}, {line['attacker']}", *line["varied"]]
        numbers = [shown.column.show(shown.of(line)) for shown in printed]
        table.add_row(where, Text("\n".join(how)), *numbers, str(line["examples"]))
    console.print(table)
    if len(report["lines"]) > _MOST_PRINTED:
        more = len(report["lines"]) - _MOST_PRINTED
        console.print(f"and {more} more lines in the report")
