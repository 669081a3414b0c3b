"""`jaxinv defenses`: what defences there are, and how they compare."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxinv.cli.arguments import add_running, options_of, whole
from jaxinv.cli.running import quieten_backends, run_and_report

_ABOUT = "list the defences, or compare what they protect and what they cost"


def add_to(commands: Any) -> None:
    """Adds the command to the top parser."""
    parser = commands.add_parser(
        "defenses",
        help=_ABOUT,
        description="Lists the defences. With --compare: attacks a model's updates "
        "under each of them, by attackers who know it and who do not, trains the model "
        "under it, and writes report.html and report.json with privacy against "
        "accuracy.",
        epilog="For models, data and systems you are entitled to test.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    text = "defences, each NAME or NAME:option=value,..., several joined by + as one; "
    text += "without a name a usual choice of them"
    add("--compare", metavar="NAME", nargs="*", help=text)
    add("--target", metavar="NAME", default="mlp", help="default: mlp")
    text = "may be repeated (default: linear_layer and inverting_gradients)"
    add("--attack", metavar="NAME", action="append", default=[], help=text)
    for name, least, default, text in (
        ("--restarts", 1, 1, "starts for each batch; the best by its own score wins"),
        ("--iterations", 1, 300, "steps of each start, of attacks that take steps"),
        ("--batch-size", 1, 1, "examples behind one attacked update"),
        ("--num-examples", 1, 8, "examples to attack, for each defence and attack"),
        ("--draws", 1, 4, "of a random defence that the attacker averages"),
        ("--seed", 0, 0, "of everything random"),
        ("--size", 1, None, "resize images to N x N (default: as they are)"),
        ("--train-rounds", 1, 400, "rounds of the training under each defence"),
        ("--train-clients", 1, 4, "clients in every round"),
        ("--train-batch-size", 1, 16, "examples of a client in a round"),
        ("--train-protected-rounds", 0, None, "first rounds that are protected: all"),
        ("--train-evaluations", 1, 10, "times the accuracy is taken"),
        ("--train-seeds", 1, 3, "trainings under each defence"),
    ):
        text += "" if default is None else f" (default: {default})"
        add(name, metavar="N", type=whole(least), default=default, help=text)
    text = "of the server's Adam (default: 0.003)"
    add("--train-learning-rate", metavar="N", type=float, default=3e-3, help=text)
    text = "images to train on and to attack, as for jaxinv audit images"
    add("--data", metavar="PATH", help=f"{text} (default: embedded digits)")
    add("--normalise", action="store_true", help="standardise pixels")
    text = "do not tell the attacker: labels"
    add("--withhold", metavar="WHAT", action="append", default=[], help=text)
    add_running(parser, ("target", "trained", "attack"), "target.width=16")
    parser.set_defaults(command=_defenses)


def _defenses(args: argparse.Namespace) -> int:
    if args.compare is None:
        return _list()
    from jaxinv.reports.folder import check_folder

    # Now, not after an hour of work.
    folder = check_folder(args.out)
    quieten_backends()
    from jaxinv.audits.defenses import CompareConfig, Training, compare
    from jaxinv.audits.defenses.config import USUAL
    from jaxinv.data.images import DIGITS
    from jaxinv.reports.defenses import judge, write_report

    training = Training(
        rounds=args.train_rounds,
        clients=args.train_clients,
        batch_size=args.train_batch_size,
        learning_rate=args.train_learning_rate,
        protected_rounds=args.train_protected_rounds,
        evaluations=args.train_evaluations,
        seeds=args.train_seeds,
    )
    config = CompareConfig(
        defenses=tuple(args.compare) or USUAL,
        attacks=tuple(args.attack) or CompareConfig.attacks,
        target=args.target,
        data=DIGITS if args.data is None else args.data,
        num_examples=args.num_examples,
        batch_size=args.batch_size,
        restarts=args.restarts,
        iterations=args.iterations,
        draws=args.draws,
        size=args.size,
        normalise=args.normalise,
        seed=args.seed,
        withhold=tuple(args.withhold),
        training=training,
        target_options=options_of(args, "target"),
        trained_options=options_of(args, "trained"),
        attack_options=options_of(args, "attack"),
    )
    # Hours of work: the report is there after the first row, and grows.
    run = partial(compare, config, on_row=lambda now: write_report(now, folder))
    return run_and_report(args, folder, run, write_report, judge, print_rows)


def _list() -> int:
    quieten_backends()
    from jaxinv.defenses import DEFENSES, options_line

    table = Table(box=SIMPLE)
    for column in ("name", "what it does, and its options"):
        table.add_column(column, no_wrap=column == "name")
    for name, row in DEFENSES.items():
        lines = [f"{row.about} ({row.paper})", options_line(name)]
        table.add_row(name, Text("\n".join(line for line in lines if line)))
    console = Console()
    console.print(table)
    console.print("jaxinv audit images --defense NAME:option=value,...")
    console.print("jaxinv defenses --compare NAME:option=value,... NAME+NAME ...")
    return 0


def print_rows(console: Console, report: dict[str, Any]) -> None:
    """Prints a table of a comparison, a line for each defence."""
    from jaxinv.reports.page import number

    title = f"on {report['target']}, by the strongest of {report['attack_title']}"
    table = Table(title=Text(title), title_justify="left", title_style="", box=SIMPLE)
    table.add_column("defence", overflow="fold")
    for name in ("PSNR, dB", "accuracy, %"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("attacker", "attack", "front"):
        table.add_column(name)
    for row in report["rows"]:
        best = row["strongest"]
        cells = number(best["psnr"]), number(100 * row["accuracy"])
        front = "yes" if row["pareto"] else ""
        names = best["attacker"], best["attack"], front
        table.add_row(Text(row["defense"]), *cells, *names)
    console.print(table)
