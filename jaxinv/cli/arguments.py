"""Arguments that the cases share, and how their words become values."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from jaxinv.options import parsed

_MOST = 2**31 - 1


def add_case(cases: Any, name: str, about: str, description: str) -> Any:
    """A subcommand of `jaxinv audit`, as yet without options.

    Args:
      cases: of `add_subparsers`.
      name: of the case.
      about: one line for a person who chooses.
      description: what `--help` says above the options.

    Returns:
      Its parser.
    """
    return cases.add_parser(
        name,
        help=about,
        description=description,
        epilog="For models, data and systems you are entitled to test.",
        allow_abbrev=False,
    )


def add_running(parser: Any, owners: Sequence[str], example: str) -> None:
    """Options that every case ends with: how it runs and where the report goes.

    Args:
      parser: of the case.
      owners: whose options `--set` sets.
      example: of what it is given.
    """
    add, forms = parser.add_argument, " or ".join(owners)
    text = f"of the {forms}, such as {example}; may be repeated"
    listed = {"action": "append", "default": [], "type": _option_of(owners)}
    add("--set", metavar="OPTION=VALUE", help=text, **listed)
    text = "where the report goes (default: jaxinv-out)"
    add("--out", metavar="DIR", default="jaxinv-out", help=text)
    text = "compile anew instead of keeping programs in the user's cache folder"
    add("--no-cache", action="store_true", help=text)
    add("--quiet", action="store_true", help="print nothing but errors")


def options_of(args: argparse.Namespace, owner: str) -> dict[str, Any]:
    """What `--set` said of one owner, by name."""
    return {name: value for one, name, value in args.set if one == owner}


def whole(least: int) -> Callable[[str], int]:
    """A parser of whole numbers from `least` on, for argparse."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= _MOST:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no whole number from {least} to {_MOST}"
            )
        return value

    return parse


def _option_of(owners: Sequence[str]) -> Callable[[str], tuple[str, str, Any]]:
    """A parser of `target.width=16` as `("target", "width", 16)`."""

    def parse(text: str) -> tuple[str, str, Any]:
        path, equals, value = text.partition("=")
        owner, _, name = path.partition(".")
        if not equals or owner not in owners or not name.isidentifier():
            forms = " or ".join(f"{one}.NAME=VALUE" for one in owners)
            raise argparse.ArgumentTypeError(f"{text!r} is not of the form {forms}")
        return owner, name, parsed(value)

    return parse
