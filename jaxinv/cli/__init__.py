"""The command line: `jaxinv audit CASE`, `jaxinv defenses`, `report`, `list`.

Exit codes: 0 done, 2 something asked for is wrong (one line on stderr), 130 stopped by
the user. Any other exception is a defect and keeps its traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

from jaxinv.audits import CASES
from jaxinv.errors import InputError, nearest

DEFAULT_CASE = "images"
"""What `jaxinv audit` means without a case."""


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing the usage and leaving."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: the arguments without the program's name; None takes those of the process.

    Returns:
      The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        # A class name that the terminal cannot spell must not cost the run.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # pyright: ignore
    try:
        args = _parser().parse_args(_with_case(sys.argv[1:] if argv is None else argv))
        return args.command(args)
    except (InputError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            # The reader left; nothing is wrong, and closing must not complain again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        print(f"jaxinv: error: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxinv: stopped; nothing was written", file=sys.stderr)
        return 130


def _with_case(argv: Sequence[str]) -> list[str]:
    """The arguments with the case spelled out, where they ask for an audit."""
    words = list(argv)
    if words[:1] != ["audit"] or words[1:2] in (["-h"], ["--help"]):
        return words
    if len(words) == 1 or words[1].startswith("-"):
        words.insert(1, DEFAULT_CASE)
    if words[1] not in CASES:
        raise InputError(f"case is {words[1]!r}; {nearest(words[1], CASES)}")
    return words


def _one_line(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename!r}: " if error.filename is not None else ""
        text = f"{name}{error.strerror}"
    text = " ".join(text.split()) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)


def _parser() -> _Parser:
    from jaxinv.cli import (
        defenses,
        graphs,
        images,
        listing,
        recommender,
        report,
        sweep,
        update,
    )

    parser = _Parser(
        prog="jaxinv",
        description="Find out what a federated client's update gives away.",
        epilog="For models, data and systems you are entitled to test.",
        allow_abbrev=False,
    )
    version = f"jaxinv {metadata.version('jaxinv')}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(
        title="commands", dest="name", metavar="COMMAND", required=True
    )
    audit = commands.add_parser(
        "audit",
        help="attack a model's updates and judge what comes back",
        description="Attack a model's updates and judge what comes back. "
        "Writes report.html and report.json. Each case has options of its "
        "own: jaxinv audit CASE --help",
        epilog="For models, data and systems you are entitled to test.",
        allow_abbrev=False,
    )
    cases = audit.add_subparsers(
        title="cases", metavar=f"CASE (default: {DEFAULT_CASE})", required=True
    )
    images.add_to(cases)
    recommender.add_to(cases)
    graphs.add_to(cases)
    update.add_to(cases)
    defenses.add_to(commands)
    report.add_to(commands)
    sweep.add_to(commands)
    listing.add_to(commands)
    return parser
