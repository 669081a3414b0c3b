"""`jaxinv audit recommender`: its options, and the table it prints."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxinv.audits import CASES
from jaxinv.cli.arguments import add_case, add_running, options_of, whole
from jaxinv.cli.running import quieten_backends, run_and_report

_MOST_PRINTED = 16
"""Users; the report has all."""


def add_to(cases: Any) -> None:
    """Adds the case to the parsers of `jaxinv audit`."""
    from jaxinv.attacks.mgradinv import EMBEDDINGS
    from jaxinv.audits.recommender.attacks import ATTACKS
    from jaxinv.models.recommenders import RECOMMENDERS

    parser = add_case(
        cases,
        "recommender",
        CASES["recommender"],
        "Train a recommender among users, attack what some of them send and judge the "
        "ratings that come back. Writes report.html and report.json.",
    )
    add = parser.add_argument
    text = f"{', '.join(sorted(RECOMMENDERS))} (default: mf)"
    add("--model", metavar="NAME", default="mf", help=text)
    text = f"{', '.join(ATTACKS)} (default: the first that suits the model)"
    add("--attack", metavar="NAME", help=text)
    text = f"{', '.join(EMBEDDINGS)}: of mgradinv; known grants it (default: joint)"
    add("--embedding", metavar="WAY", default="joint", help=text)
    text = "a .csv or .npz with users, items, ratings (default: generated ratings)"
    add("--data", metavar="PATH", help=text)
    text = "train on interactions: items rated, and four negatives beside each"
    add("--implicit", action="store_true", help=text)
    text = "a client sends a row for every item, with noise on all (see --noise)"
    add("--all-items", action="store_true", help=text)
    for name, least, default, text in (
        ("--users", 1, 12, "users to attack, evenly over those with enough ratings"),
        ("--least-ratings", 1, 20, "of a user who is attacked"),
        ("--most-ratings", 1, None, "of a user who is attacked (default: any number)"),
        ("--rounds", 1, 2, "rounds of training that the server observed"),
        ("--interval", 1, 10, "steps of training between two of them"),
        ("--start", 0, 0, "steps of training before the first"),
        ("--dim", 1, 64, "entries of an embedding"),
        ("--restarts", 1, 8, "starts for each user; the best by its own score wins"),
        ("--iterations", 1, None, "steps of each start (default: the attack's own)"),
        ("--seed", 0, 0, "of everything random"),
    ):
        text += "" if default is None else f" (default: {default})"
        add(name, metavar="N", type=whole(least), default=default, help=text)
    text = "of clients and server (default: 0.05)"
    add("--learning-rate", metavar="X", type=float, default=0.05, help=text)
    text = "all users train, not the attacked one alone"
    add("--together", action="store_true", help=text)
    text = "on the update, as a share of its root mean square (default: 0)"
    add("--noise", metavar="SHARE", type=float, default=0.0, help=text)
    text = "the update is rounded to float16 on its way"
    add("--float16", action="store_true", help=text)
    text = "training and attack compute in float64"
    add("--float64", action="store_true", help=text)
    add_running(parser, ("model", "attack"), "model.std=0.2")
    parser.set_defaults(command=_audit)


def _audit(args: argparse.Namespace) -> int:
    from jaxinv.reports.folder import check_folder
    from jaxinv.reports.recommender import judge, write_report

    # Now, not after an hour of work.
    folder = check_folder(args.out)
    quieten_backends()
    from jaxinv.audits.recommender import AuditConfig, run_audit

    config = AuditConfig(
        model=args.model,
        attack=args.attack,
        embedding=args.embedding,
        rounds=args.rounds,
        interval=args.interval,
        start=args.start,
        together=args.together,
        learning_rate=args.learning_rate,
        data=args.data,
        implicit=args.implicit,
        all_items=args.all_items,
        users=args.users,
        least_ratings=args.least_ratings,
        most_ratings=args.most_ratings,
        dim=args.dim,
        restarts=args.restarts,
        iterations=args.iterations,
        noise=args.noise,
        float16=args.float16,
        float64=args.float64,
        seed=args.seed,
        model_options=options_of(args, "model"),
        attack_options=options_of(args, "attack"),
    )
    run = partial(run_audit, config)
    return run_and_report(args, folder, run, write_report, judge, _print_users)


def _print_users(console: Console, report: dict[str, Any]) -> None:
    from jaxinv.reports.page import figures
    from jaxinv.reports.recommender.verdict import RATINGS, rate, words

    title = (
        f"{report['attack_title']} on {report['model']}, {report['dataset']['name']}"
    )
    table = Table(title=Text(title), title_justify="left", title_style="", box=SIMPLE)
    for name in ("user", "exact", "error", "match"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("judged", no_wrap=True)
    called = words(report, RATINGS)
    for u in report["users"][:_MOST_PRINTED]:
        num, share = u["num_ratings"], u["exact"]
        exact = "n/a" if share is None else f"{num * share:.0f} of {num}"
        error, match = figures(u["mae"]), figures(u["gradient_loss"])
        judged = called[rate(u)]
        table.add_row(str(u["user"]), exact, error, match, u["status"], judged)
    console.print(table)
    if len(report["users"]) > _MOST_PRINTED:
        more = len(report["users"]) - _MOST_PRINTED
        console.print(f"and {more} more in the report")
