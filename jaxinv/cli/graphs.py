"""`jaxinv audit molecules` and `citations`: their options, and the table they print."""

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

_MOST_PRINTED = 40
"""Graphs; the report has all."""


def add_to(cases: Any) -> None:
    """Adds both cases to the parsers of `jaxinv audit`."""
    about = (
        "Attack the gradients that clients of a graph network send, one {} each, and "
        "judge the graphs that come back. Writes report.html and report.json."
    )
    name = "molecules"
    parser = add_case(cases, name, CASES[name], about.format("molecule"))
    text = "a .csv with a column smiles and one of labels (default: embedded molecules)"
    _add_options(parser, text, "all embedded ones, 20 of a file")
    text = "column of the labels (default: the known or only one)"
    parser.add_argument("--label", metavar="NAME", help=text)
    text = "do not tell the attacker that the graphs are molecules"
    parser.add_argument("--no-chemistry", action="store_true", help=text)
    parser.set_defaults(command=_audit, case=name)
    name = "citations"
    parser = add_case(cases, name, CASES[name], about.format("neighbourhood of papers"))
    text = "a .npz of a network, such as cora.npz (default: a generated network)"
    _add_options(parser, text, "20")
    parser.set_defaults(command=_audit, case=name)


def _add_options(parser: Any, data: str, num: str) -> None:
    from jaxinv.models.graph_networks import GRAPH_MODELS
    from jaxinv.models.graph_networks.base import ACTIVATIONS

    add = parser.add_argument
    text = f"{', '.join(GRAPH_MODELS)} (default: gcn)"
    add("--model", metavar="NAME", default="gcn", help=text)
    add("--data", metavar="PATH", help=data)
    text = f"graphs to attack, drawn at random (default: {num})"
    add("--num", metavar="N", type=whole(1), help=text)
    for name, least, default, text in (
        ("--seed", 0, 42, "of everything random"),
        ("--depth", 1, 2, "layers of the model"),
        ("--width", 1, 300, "units of each"),
        ("--controls", 0, 3, "graphs on which the negative control is run"),
        ("--candidates", 1, None, "neighbourhoods tested in one level"),
    ):
        own = "the attack's own" if default is None else default
        text += f" (default: {own})"
        add(name, metavar="N", type=whole(least), default=default, help=text)
    text = (
        f"{', '.join(ACTIVATIONS)}, where the model has the choice (default: its own)"
    )
    add("--activation", metavar="NAME", help=text)
    from jaxinv.graph import TASKS

    text = "graph, one label for each, or node, one for every node (default: graph)"
    add("--task", metavar="NAME", choices=TASKS, default="graph", help=text)
    text = "the client trains by steps of this size, sends how its weights moved"
    add("--local-lr", metavar="X", type=float, help=text)
    text = "of that training (default: 1)"
    add("--local-steps", metavar="N", type=whole(1), help=text)
    text = "of the search among graphs of one set of nodes (default: the attack's own)"
    add("--seconds", metavar="X", type=float, help=text)
    text = "on the gradient, as a share of its root mean square (default: 0)"
    add("--noise", metavar="SHARE", type=float, default=0.0, help=text)
    text = "the gradient is rounded to float16 on its way"
    add("--float16", action="store_true", help=text)
    add_running(parser, ("model",), "model.heads=4")


def _audit(args: argparse.Namespace) -> int:
    from jaxinv.reports.folder import check_folder
    from jaxinv.reports.graphs import judge, write_report

    # Now, not after an hour of work.
    folder = check_folder(args.out)
    quieten_backends()
    from jaxinv.audits import graphs

    shared = {
        "data": args.data,
        "num": args.num,
        "seed": args.seed,
        "model": args.model,
        "depth": args.depth,
        "width": args.width,
        "activation": args.activation,
        "task": args.task,
        "local_lr": args.local_lr,
        "local_steps": args.local_steps,
        "noise": args.noise,
        "float16": args.float16,
        "controls": args.controls,
        "candidates": args.candidates,
        "seconds": args.seconds,
        "model_options": options_of(args, "model"),
    }
    if args.case == "molecules":
        told = {"label": args.label, "no_chemistry": args.no_chemistry}
        config = graphs.MoleculesConfig(**shared, **told)
    else:
        config = graphs.CitationsConfig(**shared)
    run = partial(graphs.run_audit, config)
    return run_and_report(args, folder, run, write_report, judge, _print_graphs)


def _print_graphs(console: Console, report: dict[str, Any]) -> None:
    from jaxinv.reports.graphs.verdict import rate, rating

    title = (
        f"{report['attack_title']} on {report['model']}, {report['dataset']['name']}"
    )
    table = Table(title=Text(title), title_justify="left", title_style="", box=SIMPLE)
    unit = report["unit"]
    table.add_column(unit, overflow="fold", max_width=40)
    nodes = "atoms" if unit == "molecule" else "nodes"
    for name in (nodes, "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("certificate", no_wrap=True)
    table.add_column("judged", no_wrap=True)
    for e in report["graphs"][:_MOST_PRINTED]:
        style = "bold red" if rate(e) == "wrong unique" else ""
        judged = rating(e)
        if rate(e) == "gave up":
            judged = f"at the {e['stage']}"
        seconds = f"{e['seconds']:.1f}"
        name = _name(e)
        cells = name, str(e["num_nodes"]), seconds, e["certificate"], judged
        table.add_row(*(Text(cell) for cell in cells), style=style)
    console.print(table)
    console.print(Text(f"{report['dataset']['about']}.", style="dim"))
    if len(report["graphs"]) > _MOST_PRINTED:
        more = len(report["graphs"]) - _MOST_PRINTED
        console.print(f"and {more} more in the report")
    for control in report["controls"]:
        if control["solved"]:
            said = f"negative control on {control['name']} gave a graph"
            console.print(Text(said, style="bold red"))


def _name(entry: dict[str, Any]) -> str:
    """What a person calls it: a molecule of a file has no name but its SMILES."""
    numbered = f"molecule {entry['index']}"
    return entry["smiles"] if entry["name"] == numbered else entry["name"]
