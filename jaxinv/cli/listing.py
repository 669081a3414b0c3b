"""`jaxinv list`: what can be audited, attacked and recovered, by name."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxinv.audits import CASES
from jaxinv.cli.running import quieten_backends

_ABOUT = "what there is: cases, models, attacks, defences, label rules"


def add_to(commands: Any) -> None:
    """Adds the command to the top parser."""
    parser = commands.add_parser(
        "list",
        help=_ABOUT,
        description=f"{_ABOUT[0].upper()}{_ABOUT[1:]}.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(command=_list)


def _list(args: argparse.Namespace) -> int:
    quieten_backends()
    tables = _tables()
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


def _tables() -> dict[str, dict[str, dict[str, str]]]:
    from jaxinv.attacks import ATTACKS
    from jaxinv.attacks.labels import LABEL_RULES
    from jaxinv.audits.recommender.attacks import ATTACKS as ON_RATINGS
    from jaxinv.defenses import DEFENSES
    from jaxinv.models import MODELS
    from jaxinv.models.graph_networks import GRAPH_MODELS
    from jaxinv.models.recommenders import RECOMMENDERS

    return {
        "cases": {name: {"about": about} for name, about in CASES.items()},
        "targets": {name: {"about": row.about} for name, row in MODELS.items()},
        "attacks": {
            name: {"about": f"{row.title}: {row.about}", "paper": row.paper}
            for name, row in ATTACKS.items()
        },
        "defenses": {
            name: {"about": f"{row.title}: {row.about}", "paper": row.paper}
            for name, row in DEFENSES.items()
        },
        "label rules": {
            name: {"about": f"needs {row.assumes}", "paper": row.citation}
            for name, row in LABEL_RULES.items()
        },
        "recommenders": {
            name: {"about": (make.__doc__ or "").partition("\n")[0]}
            for name, make in RECOMMENDERS.items()
        },
        "graph networks": {
            name: {"about": (make.__doc__ or "").partition("\n")[0]}
            for name, make in GRAPH_MODELS.items()
        },
        "attacks on ratings": {
            name: {"about": f"{row.title}: {row.about}", "paper": row.paper}
            for name, row in ON_RATINGS.items()
        },
    }
