"""What the precision of the arithmetic does to an attack, and to its speed.

    python -m bench precision --json FILE

The embedded photographs through `jaxinv audit`'s own path, once for each precision. On
a CPU the lower precisions are those of an accelerator by their rounding alone
(`jaxinv.precision.rounded`), so their speed there means nothing and is left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from bench.machine import machine
from jaxinv.audits.images import AuditConfig, run_audit
from jaxinv.precision import PRECISIONS

ATTACKS: dict[str, dict[str, Any]] = {
    "dlg": {"restarts": 4, "iterations": 3000},
    # As in `bench.images`: a smooth model needs no sign.
    "inverting_gradients": {
        "restarts": 4,
        "iterations": 2000,
        "attack_options": {
            "signed": None,
            "schedule": "cosine",
            "learning_rate": 0.05,
            "tv": 1e-3,
        },
    },
}


def main(argv: Sequence[str]) -> int:
    """Runs every attack in every precision, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench precision")
    parser.add_argument("--attacks", nargs="*", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument(
        "--precisions", nargs="*", choices=PRECISIONS, default=list(PRECISIONS)
    )
    parser.add_argument("--num-examples", type=int, default=4)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    emulated = jax.default_backend() == "cpu"
    rows = []
    for attack in args.attacks:
        settings = dict(ATTACKS[attack])
        settings["iterations"] = args.iterations or settings["iterations"]
        for precision in args.precisions:
            config = AuditConfig(
                attack=attack,
                target="lenet",
                num_examples=args.num_examples,
                precision=precision,
                **settings,
            )
            report = run_audit(config).report
            lower = precision in ("tensorfloat32", "bfloat16")
            rate = report["restart_iterations_per_s"]
            rows.append(
                {
                    "attack": attack,
                    "target": "lenet",
                    "precision": precision,
                    "emulated": emulated and lower,
                    "psnr_median": report["summary"]["psnr_median"],
                    "psnr": [e["psnr"] for e in report["examples"]],
                    "score": [e["score"] for e in report["examples"]],
                    "restart_iterations_per_s": None if emulated and lower else rate,
                    **{k: report[k] for k in ("restarts", "iterations", "compile_s")},
                    "command": " ".join(["python -m bench precision", *_plain(argv)]),
                    "machine": machine(),
                }
            )
            if args.json:
                # After every row: what is measured is kept.
                text = json.dumps(rows, indent=1) + "\n"
                args.json.write_text(text, encoding="utf-8")
    _print(rows)
    return 0


def _plain(argv: Sequence[str]) -> list[str]:
    """The arguments without the file to write, which changes no number."""
    words = list(argv)
    if "--json" in words:
        at = words.index("--json")
        del words[at : at + 2]
    return words


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table()
    titles = ("attack", "precision", "emulated", "median dB", "r-it/s", "compile s")
    for title in titles:
        table.add_column(title)
    for row in rows:
        rate = row["restart_iterations_per_s"]
        table.add_row(
            row["attack"],
            row["precision"],
            "yes" if row["emulated"] else "",
            f"{row['psnr_median']:.1f}",
            "" if rate is None else f"{rate:.0f}",
            f"{row['compile_s']:.1f}",
        )
    Console(width=100).print(table)
