"""`jaxinv audit images`: its options, and the table it prints."""

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
"""Examples; the report has all."""


def add_to(cases: Any) -> None:
    """Adds the case to the parsers of `jaxinv audit`."""
    from jaxinv.audits.images.config import GRANTABLE
    from jaxinv.local_training import OPTIMIZERS
    from jaxinv.precision import PRECISIONS

    parser = add_case(
        cases,
        "images",
        CASES["images"],
        "Attack what a classifier's client sends and judge the images that come back. "
        "Writes report.html, report.json and pictures.",
    )
    add = parser.add_argument
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
        add(name, metavar="N", type=whole(least), default=default, help=text)
    text = (
        "a .npz with x and y, a folder of images, CIFAR-10 batches or MNIST idx files"
    )
    add("--data", metavar="PATH", help=f"{text} (default: embedded photographs)")
    for name, what in (("--grant", "tell"), ("--withhold", "do not tell")):
        text = f"{what} the attacker: {' or '.join(GRANTABLE)}; may be repeated"
        listed = {"action": "append", "default": [], "choices": GRANTABLE}
        add(name, metavar="WHAT", help=text, **listed)
    text = "what the client does to its update: NAME or NAME:option=value,... of "
    text += "`jaxinv defenses`; may be repeated, in this order. The attacker who knows "
    text += "it and the one who does not both try"
    add("--defense", metavar="NAME", action="append", default=[], help=text)
    text = "over how many draws of a random defence the attacker averages (default: 4)"
    add("--draws", metavar="N", type=whole(1), default=4, help=text)
    for name, kind, text in (
        ("--sampling-rate", float, "share of the examples in a round, for an epsilon"),
        ("--dp-rounds", whole(1), "rounds of the training, for an epsilon"),
    ):
        add(name, metavar="N", type=kind, help=f"{text} of dp_sgd")
    text = "of (epsilon, delta)-privacy (default: 1e-5)"
    add("--delta", metavar="N", type=float, default=1e-5, help=text)
    for name, kind, text in (
        ("--local-lr", float, "the client trains by steps of this size, sends weights"),
        ("--local-steps", whole(1), "of that training (default: one epoch)"),
        ("--local-epochs", whole(1), "of that training, instead of steps"),
        ("--local-batch", whole(1), "examples of a local step (default: all)"),
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
    add_running(parser, ("target", "attack"), "target.width=16")
    parser.set_defaults(command=_audit)


def _audit(args: argparse.Namespace) -> int:
    from jaxinv.reports.folder import check_folder
    from jaxinv.reports.images import judge, write_report

    # Now, not after an hour of work.
    folder = check_folder(args.out)
    quieten_backends()
    from jaxinv.audits.images import AuditConfig, run_audit

    config = AuditConfig(
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
        defense=tuple(args.defense),
        draws=args.draws,
        sampling_rate=args.sampling_rate,
        dp_rounds=args.dp_rounds,
        delta=args.delta,
        local_lr=args.local_lr,
        local_steps=args.local_steps,
        local_epochs=args.local_epochs or 1,
        local_batch=args.local_batch,
        local_optimizer=args.local_optimizer,
        target_options=options_of(args, "target"),
        attack_options=options_of(args, "attack"),
    )
    run = partial(run_audit, config)
    return run_and_report(args, folder, run, write_report, judge, _print_examples)


def _print_examples(console: Console, report: dict[str, Any]) -> None:
    from jaxinv.reports.images.verdict import RATINGS, rate
    from jaxinv.reports.page import figures, number

    title = f"{report['attack_title'] or report['attack']} on {report['target']}"
    if report["attacker"] is not None:
        title += f", {report['attacker']} to {report['defense']}"
    table = Table(title=Text(title), title_justify="left", title_style="", box=SIMPLE)
    table.add_column("example")
    table.add_column("class", overflow="fold")
    for name in ("PSNR", "SSIM", "score", "oracle"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("judged", no_wrap=True)
    for e in report["examples"][:_MOST_PRINTED]:
        label = str(e["class_true"])
        if e["label_found"] != e["label_true"]:
            label += f", found {e['class_found']}"
        psnr, ssim = number(e["psnr"]), number(e["ssim"], 2)
        score, oracle = figures(e["score"]), number(e["oracle_psnr"])
        words = RATINGS[rate(e)]
        table.add_row(str(e["index"]), Text(label), psnr, ssim, score, oracle, words)
    console.print(table)
    if len(report["examples"]) > _MOST_PRINTED:
        more = len(report["examples"]) - _MOST_PRINTED
        console.print(f"and {more} more in the report")
    for one in report["attackers"] if len(report["attackers"]) > 1 else ():
        psnr, about = number(one["summary"]["psnr_mean"]), one["about"]
        console.print(Text(f"{one['name']}: {psnr} dB in the mean; it {about}"))
