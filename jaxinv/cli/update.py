"""`jaxinv audit update`: its options, and what it prints."""

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


def add_to(cases: Any) -> None:
    """Adds the case to the parsers of `jaxinv audit`."""
    from jaxinv.precision import PRECISIONS

    parser = add_case(
        cases,
        "update",
        CASES["update"],
        "Attack an update that came from a real client, in files, and weigh what comes "
        "back. Writes report.html, report.json and pictures. examples/update shows "
        "how to come by the files.",
    )
    add = parser.add_argument
    text = (
        "FILE.py:NAME, a loss (params, batch), a flax module or what makes one; or a "
    )
    text += "name of `jaxinv list`"
    add("--model", metavar="MODEL", required=True, help=text)
    text = (
        "what the server sent: .safetensors, .npz, .msgpack (flax), a folder of orbax"
    )
    add("--params", metavar="FILE", required=True, help=text)
    text = "what came back, laid out as the params"
    add("--update", metavar="FILE", required=True, help=text)
    text = "what is known of the client; examples/update/client.toml shows all entries"
    add("--client", metavar="TOML", required=True, help=text)
    text = "FILE.py:NAME, the model in PyTorch: both are compared on one batch first"
    add("--torch-model", metavar="MODEL", help=text)
    text = "another client's update for the control (default: permuted numbers)"
    add("--other", metavar="FILE", help=text)
    text = "the client's images, to judge by; the attacker never sees them"
    add("--truth", metavar="PATH", help=text)
    text = "default: inverting_gradients"
    add("--attack", metavar="NAME", default="inverting_gradients", help=text)
    for name, least, default, text in (
        ("--restarts", 1, 4, "starts; the best by its own score wins"),
        ("--iterations", 1, None, "steps of each start (default: the attack's own)"),
        ("--seed", 0, 0, "of everything random"),
        ("--draws", 1, 4, "of a random defence that the attacker averages over"),
    ):
        text += "" if default is None else f" (default: {default})"
        add(name, metavar="N", type=whole(least), default=default, help=text)
    text = "drop the starts that lag behind after 1/8, 1/4 and 1/2 of the steps"
    add("--halving", action="store_true", help=text)
    text = f"of the matrix products: {', '.join(PRECISIONS)} (of everything)"
    add("--precision", metavar="NAME", choices=PRECISIONS, help=text)
    text = "attack an update even if this client cannot have sent it"
    add("--anyway", action="store_true", help=text)
    add_running(parser, ("model", "attack"), "model.width=16")
    parser.set_defaults(command=_audit)


def _audit(args: argparse.Namespace) -> int:
    from jaxinv.reports.folder import check_folder
    from jaxinv.reports.update import judge, write_report

    # Now, not after an hour of work.
    folder = check_folder(args.out)
    quieten_backends()
    from jaxinv.audits.update import UpdateConfig, run_audit

    config = UpdateConfig(
        model=args.model,
        params=args.params,
        update=args.update,
        client=args.client,
        torch_model=args.torch_model,
        other=args.other,
        truth=args.truth,
        attack=args.attack,
        restarts=args.restarts,
        iterations=args.iterations,
        seed=args.seed,
        halving=args.halving,
        precision=args.precision,
        draws=args.draws,
        anyway=args.anyway,
        model_options=options_of(args, "model"),
        attack_options=options_of(args, "attack"),
    )
    run = partial(run_audit, config)
    return run_and_report(args, folder, run, write_report, judge, _print_evidence)


def _print_evidence(console: Console, report: dict[str, Any]) -> None:
    from jaxinv.reports.page import figures, number

    for finding in report["findings"]:
        words = f"{finding['verdict']:>10}  {finding['check']}: {finding['line']}"
        console.print(Text(words), soft_wrap=True)
    title = (
        f"{report['attack_title']} on {report['model']}, {report['dataset']['name']}"
    )
    table = Table(title=Text(title), title_justify="left", title_style="", box=SIMPLE)
    table.add_column("update", no_wrap=True)
    for name in ("score", "unexplained", "grey", "agree", "PSNR"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    psnr = report["summary"].get("psnr_median")
    for title, row, near in (
        ("client's", report["evidence"], psnr),
        ("wrong", report["control"], None),
    ):
        if row is not None:
            table.add_row(
                title,
                figures(row["score"]),
                _percent(row["unexplained"]),
                _percent(row["unexplained_grey"]),
                number(row["agreement"], 1, " dB"),
                number(near, 1, " dB"),
                row["status"],
            )
    console.print(table)


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.3g} %"
