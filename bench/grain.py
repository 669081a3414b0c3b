"""GRAIN: how many graphs are recovered exactly from one gradient, and how fast.

    JAXINV_DATA=... python -m bench grain --data tox21 --num 100 --seed 42 --json FILE

Writes one object per graph (smiles or id, num_nodes, status: the certificate,
isomorphic, in_class, gsm0, gsm1, gsm2, full, seconds without compiling, stage where it
ended, and more) and prints how it went by size and where the time went. Molecules are
the first ones after a shuffle; of `known` the embedded ones, of citeseer, cora and ego
neighbourhoods are drawn with the published mix of sizes or as --sizes says.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.machine import machine
from jaxinv.attacks.grain import grain
from jaxinv.audits.graphs.clients import Clients
from jaxinv.data.graphs import (
    citation_samples,
    drawn_sizes,
    ego_samples,
    first_shuffled,
    load_citations,
    load_ego,
    load_known_molecules,
    load_molecules,
    molecule_domain,
)
from jaxinv.graph import ANY, Domain, Graph, GraphSpec
from jaxinv.metrics import isomorphic, judge_graph
from jaxinv.models.graph_networks import GRAPH_MODELS, build_graph_model
from jaxinv.observation import observe

MOLECULES = ("tox21", "clintox", "bbbp")
NETWORKS = {"citeseer": load_citations, "cora": load_citations, "ego": load_ego}
FILES = {"ego": "facebook_ego.npz", "citeseer": "citeseer.npz", "cora": "cora.npz"}
SIZES = (10, 15, 20, 30, 50)
"""Upper ends of the table's rows."""


def main(argv: Sequence[str]) -> int:
    """Attacks every graph, prints the tables and writes the JSON."""
    args = _parser().parse_args(argv)
    names, graphs, spec, domain = _data(args)
    options: dict[str, Any] = {"depth": args.depth, "width": args.width}
    if args.model == "gcn":
        options |= {"activation": args.activation, "concat": not args.no_concat}
    model = build_graph_model(args.model, spec, **options)
    params = model.init(jax.random.key(args.init_seed))
    client = Clients(model, noise=args.noise, float16=args.float16)
    command = " ".join(["python -m bench grain", *argv])
    facts = {"command": command, "machine": machine(), "data": args.data}
    rows = []
    for i, (name, graph) in enumerate(zip(names, graphs, strict=True)):
        sent = client(jax.random.key(i), params, graph)
        seen = observe(params, sent, num_examples=1, spec=spec)
        with compiling() as spent:
            start = time.perf_counter()
            found = grain(model, seen, domain=domain)
            seconds = time.perf_counter() - start
        row = {
            "id": name,
            "num_nodes": graph.num_nodes,
            "status": found.certificate.value,
            "in_class": any(isomorphic(graph, other) for other in found.graphs),
            **judge_graph(graph, found.graph, spec)._asdict(),
            "seconds": max(seconds - spent[0], 0.0),
            "compile_seconds": spent[0],
            "stage": found.stage,
            "reason": found.reason,
            "distance": found.distance if np.isfinite(found.distance) else None,
            "class_size": len(found.graphs),
            "complete": found.complete,
            "seconds_by_stage": found.seconds,
            "counts": found.counts,
        }
        rows.append(row)
        if args.verbose:
            print(i, name, *(f"{k}={v}" for k, v in row.items() if k != "id"))
        if args.json:
            # After every graph: nothing is lost when a run is interrupted.
            text = json.dumps([r | facts for r in rows], indent=1, default=float)
            args.json.write_text(text + "\n", encoding="utf-8")
    print_rows(rows)
    return 0


@contextmanager
def compiling() -> Iterator[list[float]]:
    """Adds up the seconds that JAX traces and compiles."""
    spent = [0.0]

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            spent[0] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield spent
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """The outcome by size, then the seconds by stage."""
    console = Console()
    table = Table(title="graphs by nodes")
    columns = "nodes graphs exact in_class unique ambiguous gave_up wrong_unique"
    for title in [*columns.split(), "gsm1", "full", "median s", "mean s"]:
        table.add_column(title.replace("_", " "))
    low = 0
    for high in (*SIZES, None):
        part = [
            r
            for r in rows
            if low < r["num_nodes"] and (high is None or r["num_nodes"] <= high)
        ]
        if part:
            _add_row(table, f"{low + 1} to {high or 'more'}", part)
        low = high or low
    _add_row(table, "all", rows)
    console.print(table)
    stages: Counter[str] = Counter()
    for row in rows:
        stages.update(row["seconds_by_stage"])
    print("seconds by stage, compiling included, mean:")
    for name, total in stages.items():
        print(f"  {name:16} {total / len(rows):.3f}")


def _add_row(table: Table, title: str, rows: Sequence[dict[str, Any]]) -> None:
    seconds = [r["seconds"] for r in rows]
    table.add_row(
        title,
        str(len(rows)),
        str(sum(r["isomorphic"] for r in rows)),
        str(sum(r["in_class"] for r in rows)),
        *(
            str(sum(r["status"] == status for r in rows))
            for status in ("unique", "ambiguous", "gave up")
        ),
        str(sum(r["status"] == "unique" and not r["isomorphic"] for r in rows)),
        f"{np.mean([r['gsm1'] for r in rows]):.3f}",
        f"{np.mean([r['full'] for r in rows]):.1%}",
        f"{np.median(seconds):.2f}",
        f"{np.mean(seconds):.2f}",
    )


def _data(
    args: argparse.Namespace,
) -> tuple[Sequence[str], Sequence[Graph], GraphSpec, Domain]:
    if args.data in NETWORKS:
        path = Path(os.environ.get("JAXINV_DATA", ".")) / FILES[args.data]
        network = NETWORKS[args.data](path)
        sizes = (
            drawn_sizes(args.num, args.seed)
            if args.sizes is None
            else ((args.sizes[0], args.sizes[1]),) * args.num
        )
        draw = ego_samples if args.data == "ego" else citation_samples
        samples = draw(network, sizes=sizes, seed=args.seed)
        names = [f"{args.data}-{i}" for i in range(len(samples.graphs))]
        return names, samples.graphs, samples.spec, ANY
    if args.data == "known":
        molecules = load_known_molecules()
    elif args.data in MOLECULES:
        folder = Path(os.environ.get("JAXINV_DATA", "."))
        molecules = load_molecules(folder / f"{args.data}.csv")
    else:
        molecules = load_molecules(Path(args.data), label=args.label)
    chosen = first_shuffled(molecules, args.num, args.seed)
    domain = ANY if args.no_chemistry else molecule_domain(chosen.spec)
    return chosen.smiles, chosen.graphs, chosen.spec, domain


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench grain", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--data",
        default="known",
        help=f"known, {', '.join((*MOLECULES, *NETWORKS))} or a csv of SMILES",
    )
    parser.add_argument("--label", help="column of a csv of one's own")
    parser.add_argument("--num", type=int, default=100, help="graphs")
    parser.add_argument("--seed", type=int, default=42, help="of the shuffle")
    parser.add_argument("--sizes", type=int, nargs=2, help="least and most nodes")
    parser.add_argument("--model", choices=sorted(GRAPH_MODELS), default="gcn")
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--width", type=int, default=300)
    parser.add_argument("--activation", choices=("relu", "gelu"), default="relu")
    parser.add_argument("--no-concat", action="store_true", help="readout without X")
    parser.add_argument("--init-seed", type=int, default=0, help="of the weights")
    parser.add_argument("--noise", type=float, default=0.0, help="share of each leaf")
    parser.add_argument("--float16", action="store_true", help="rounds the gradient")
    parser.add_argument("--no-chemistry", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="a line per graph")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    return parser
