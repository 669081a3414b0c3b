"""The command line: `jaxinv audit`, `jaxinv list`.

Exit codes: 0 done, 2 something asked for is wrong (one line on stderr), 130 stopped by
the user. Any other exception is a defect and keeps its traceback.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any, NoReturn

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxinv.errors import InputError
from jaxinv.interrupt import held_interrupt

_MOST = 2**31 - 1


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
        args = _parser().parse_args(argv)
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


def _one_line(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename!r}: " if error.filename is not None else ""
        text = f"{name}{error.strerror}"
    text = " ".join(text.split()) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)


def _parser() -> _Parser:
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
    _add_audit(commands)
    listing = commands.add_parser(
        "list",
        help="what there is: cases, targets, attacks, label rules",
        description="What there is: cases, targets, attacks, label rules.",
        allow_abbrev=False,
    )
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(command=_list)
    return parser


def _add_audit(commands: Any) -> None:
    from jaxinv.config import GRANTABLE
    from jaxinv.local_training import OPTIMIZERS
    from jaxinv.precision import PRECISIONS

    parser = commands.add_parser(
        "audit",
        help="attack a model's updates and judge what comes back",
        description="Attack a model's updates and judge what comes back. "
        "Writes report.html, report.json and pictures.",
        epilog="For models, data and systems you are entitled to test.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("case", metavar="CASE", nargs="?", default="images", help="default: images")
    add("--target", metavar="NAME", help="default: one that suits the attack")
    add("--attack", metavar="NAME", default="dlg", help="default: dlg")
    for name, least, default, text in (
        ("--restarts", 1, 4, "starts for each batch; the best by its own score wins"),
        ("--iterations", 1, None, "steps of each start (default: the attack's own)"),
        ("--batch-size", 1, 1, "examples behind one update"),
        ("--num-examples", 1, 4, "examples to attack in all"),
        ("--seed", 0, 0, "of everything random"),
        ("--size", 1, None, "resize images to N x N (default: as they are)"),
    ):
        text += "" if default is None else f" (default: {default})"
        add(name, metavar="N", type=_whole(least), default=default, help=text)
    text = (
        "a .npz with x and y, a folder of images, CIFAR-10 batches or MNIST idx files"
    )
    add("--data", metavar="PATH", help=f"{text} (default: embedded photographs)")
    for name, what in (("--grant", "tell"), ("--withhold", "do not tell")):
        text = f"{what} the attacker: {' or '.join(GRANTABLE)}; may be repeated"
        listed = {"action": "append", "default": [], "choices": GRANTABLE}
        add(name, metavar="WHAT", help=text, **listed)
    for name, kind, text in (
        ("--local-lr", float, "the client trains by steps of this size, sends weights"),
        ("--local-steps", _whole(1), "of that training (default: one epoch)"),
        ("--local-epochs", _whole(1), "of that training, instead of steps"),
        ("--local-batch", _whole(1), "examples of a local step (default: all)"),
    ):
        add(name, metavar="N", type=kind, help=text)
    add(
        "--local-optimizer",
        metavar="NAME",
        choices=OPTIMIZERS,
        default="sgd",
        help=f"{', '.join(OPTIMIZERS)} (default: sgd)",
    )
    text = "standardise pixels with the mean and deviation of the data"
    add("--normalise", action="store_true", help=text)
    text = "drop the starts that lag behind after 1/8, 1/4 and 1/2 of the steps"
    add("--halving", action="store_true", help=text)
    text = f"of the matrix products: {', '.join(PRECISIONS)} (of everything)"
    add("--precision", metavar="NAME", choices=PRECISIONS, help=text)
    add("--lpips", metavar="PATH", help="weights of LPIPS, to report that metric too")
    text = "of the target or attack, such as target.width=16; may be repeated"
    listed = {"action": "append", "default": [], "type": _option}
    add("--set", metavar="OPTION=VALUE", help=text, **listed)
    text = "where the report goes (default: jaxinv-out)"
    add("--out", metavar="DIR", default="jaxinv-out", help=text)
    text = "compile anew instead of keeping programs in the user's cache folder"
    add("--no-cache", action="store_true", help=text)
    add("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(command=_audit)


def _whole(least: int):
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


def _option(text: str) -> tuple[str, str, Any]:
    """`target.width=16` as `("target", "width", 16)`."""
    path, equals, value = text.partition("=")
    owner, _, name = path.partition(".")
    if not equals or owner not in ("target", "attack") or not name.isidentifier():
        raise argparse.ArgumentTypeError(
            f"{text!r} is not of the form target.NAME=VALUE or attack.NAME=VALUE"
        )
    spelled = {"True": True, "False": False, "None": None}
    if value in spelled:
        return owner, name, spelled[value]
    try:
        return owner, name, json.loads(value)
    except (ValueError, RecursionError):
        return owner, name, value


def _audit(args: argparse.Namespace) -> int:
    from jaxinv.report import check_folder, write_report
    from jaxinv.verdict import judge

    # Now, not after an hour of work.
    folder = check_folder(args.out)
    _quieten_backends()
    from jaxinv.audit import AuditConfig, run_audit
    from jaxinv.cache import use_cache
    from jaxinv.progress import reporting

    config = AuditConfig(
        case=args.case,
        target=args.target,
        attack=args.attack,
        restarts=args.restarts,
        iterations=args.iterations,
        batch_size=args.batch_size,
        num_examples=args.num_examples,
        data=args.data,
        seed=args.seed,
        withhold=tuple(dict.fromkeys(args.withhold)),
        grant=tuple(dict.fromkeys(args.grant)),
        size=args.size,
        normalise=args.normalise,
        halving=args.halving,
        precision=args.precision,
        lpips=args.lpips,
        local_lr=args.local_lr,
        local_steps=args.local_steps,
        local_epochs=args.local_epochs or 1,
        local_batch=args.local_batch,
        local_optimizer=args.local_optimizer,
        target_options={n: v for owner, n, v in args.set if owner == "target"},
        attack_options={n: v for owner, n, v in args.set if owner == "attack"},
    )
    if not args.no_cache:
        use_cache()
    if args.quiet:
        result = run_audit(config)
    else:
        with reporting(Console(stderr=True)) as on_progress:
            result = run_audit(config, on_progress=on_progress)
    with held_interrupt():
        page = write_report(result, folder)
    interrupted = bool(result.report.get("interrupted"))
    if not args.quiet:
        console = Console()
        _print_examples(console, result.report)
        console.print(Text(judge(result.report).headline, style="bold"))
        # Not wrapped, so that a terminal can follow it and a person copy it.
        console.print(Text(f"Report: {page}"), soft_wrap=True)
    if interrupted:
        print("jaxinv: stopped early; the report holds what there is", file=sys.stderr)
    return 130 if interrupted else 0


def _quieten_backends() -> None:
    """Silences what JAX and matplotlib say about a machine that is simply as it is."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for name in ("jax._src.xla_bridge", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _print_examples(console: Console, report: dict[str, Any]) -> None:
    from jaxinv.report import figures, number
    from jaxinv.verdict import RATINGS, rate

    title = f"{report['attack_title'] or report['attack']} on {report['target']}"
    table = Table(title=Text(title), title_justify="left", title_style="", box=SIMPLE)
    table.add_column("example")
    table.add_column("class", overflow="fold")
    for name in ("PSNR", "SSIM", "score", "oracle"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("judged", no_wrap=True)
    most = 16
    for e in report["examples"][:most]:
        label = str(e["class_true"])
        if e["label_found"] != e["label_true"]:
            label += f", found {e['class_found']}"
        psnr, ssim = number(e["psnr"]), number(e["ssim"], 2)
        score, oracle = figures(e["score"]), number(e["oracle_psnr"])
        words = RATINGS[rate(e)]
        table.add_row(str(e["index"]), Text(label), psnr, ssim, score, oracle, words)
    console.print(table)
    if len(report["examples"]) > most:
        console.print(f"and {len(report['examples']) - most} more in the report")


def _list(args: argparse.Namespace) -> int:
    _quieten_backends()
    from jaxinv.attacks import ATTACKS
    from jaxinv.attacks.labels import LABEL_RULES
    from jaxinv.config import CASES
    from jaxinv.models import MODELS

    tables = {
        "cases": {name: {"about": about} for name, about in CASES.items()},
        "targets": {name: {"about": row.about} for name, row in MODELS.items()},
        "attacks": {
            name: {"about": f"{row.title}: {row.about}", "paper": row.paper}
            for name, row in ATTACKS.items()
        },
        "label rules": {
            name: {"about": f"needs {row.assumes}", "paper": row.citation}
            for name, row in LABEL_RULES.items()
        },
    }
    if args.json:
        print(json.dumps({k.replace(" ", "_"): v for k, v in tables.items()}, indent=2))
        return 0
    console = Console()
    for title, rows in tables.items():
        columns = list(next(iter(rows.values())))
        table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE)
        for column in ("name", *columns):
            table.add_column(column, no_wrap=column == "name")
        for name, row in rows.items():
            table.add_row(name, *(Text(row[column]) for column in columns))
        console.print(table)
    return 0
