"""GRAIN: how many graphs are recovered exactly from one gradient, and how fast.

    JAXINV_DATA=... python -m bench grain --data tox21 --num 100 --seed 42 --json FILE
    python -m bench grain --show FILE ...

Writes one object per graph (smiles or id, num_nodes, status: the certificate,
isomorphic, in_class, gsm0, gsm1, gsm2, full, seconds without compiling, stage where it
ended, and more) and prints how it went by size and where the time went. Molecules are
the first ones after a shuffle; of `known` the embedded ones, of citeseer, cora and ego
neighbourhoods are drawn with the published mix of sizes or as --sizes says. Where
several attacks, depths, widths, levels of noise or local steps are given, every
combination is run.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from bench.grain_contenders import (
    BASELINES,
    Contender,
    baseline_contender,
    grain_contender,
)
from bench.grain_graphs import (
    MOLECULES,
    NETWORKS,
    Graphs,
    molecules,
    neighbourhoods,
    neighbourhoods_of,
)
from bench.grain_row import attacked
from bench.grain_table import Row, print_files, print_rows
from bench.machine import machine
from jaxinv.attacks.grain import LIMITS
from jaxinv.audits.graphs.clients import Clients
from jaxinv.graph import TASKS, GraphSpec
from jaxinv.local_training import LocalTraining
from jaxinv.models.graph_networks import GRAPH_MODELS, build_graph_model
from jaxinv.models.graph_networks.base import GraphModel


def main(argv: Sequence[str]) -> int:
    """Attacks every graph in every setting, prints the tables and writes the JSON."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.show:
        print_files(args.show)
        return 0
    if any(args.local_lr) and args.attack != ["grain"]:
        parser.error("--local-lr expects --attack grain")
    if args.sizes and args.task == "node":
        parser.error("--sizes expects --task graph")
    data = _data(args)
    command = " ".join(["python -m bench grain", *_plain(argv)])
    facts = {"command": command, "machine": machine(), "data": args.data}
    rows: list[Row] = []
    for depth, width in itertools.product(args.depth, args.width):
        model = _model(args, data.spec, depth, width)
        params = model.init(jax.random.key(args.init_seed))
        for attack, noise, rate, steps in itertools.product(
            args.attack, args.noise, args.local_lr, args.local_steps
        ):
            local = LocalTraining(rate, steps) if rate else None
            contender = _contender(args, attack, model, params, data, local)
            client = Clients(model, noise=noise, float16=args.float16, local=local)
            setting = {
                "attack": attack,
                "model": args.model,
                "task": args.task,
                "activation": args.activation,
                "concat": not args.no_concat,
                "depth": depth,
                "width": width,
                "noise": noise,
                "float16": args.float16,
                "local_lr": rate,
                "local_steps": steps,
                "chemistry": not args.no_chemistry,
            }
            for i, (name, graph) in enumerate(
                zip(data.names, data.graphs, strict=True)
            ):
                update = client(jax.random.key(i), params, graph)
                row = {"id": name, **attacked(contender, i, update, graph, model)}
                rows.append(row | setting | facts)
                if args.verbose:
                    print(i, name, *(f"{k}={v}" for k, v in row.items() if k != "id"))
                if args.json:
                    _write(rows, args.json)
    print_rows(rows)
    return 0


def _write(rows: Sequence[Row], path: Path) -> None:
    # After every graph: nothing is lost when a run is interrupted.
    lines = ",\n ".join(json.dumps(row, default=float) for row in rows)
    path.write_text(f"[\n {lines}\n]\n", encoding="utf-8")


def _plain(argv: Sequence[str]) -> list[str]:
    """The options without where the rows go."""
    words = [word for word in argv if word != "--verbose"]
    if "--json" in words:
        at = words.index("--json")
        del words[at : at + 2]
    return words


def _contender(
    args: argparse.Namespace,
    attack: str,
    model: GraphModel,
    params: Any,
    data: Graphs,
    local: LocalTraining | None,
) -> Contender:
    if attack == "grain":
        return grain_contender(
            model, params, data.domain, seconds=args.seconds, local=local
        )
    return baseline_contender(
        attack, model, params, num=args.restarts, steps=args.steps
    )


def _model(
    args: argparse.Namespace, spec: GraphSpec, depth: int, width: int
) -> GraphModel:
    options: dict[str, Any] = {"depth": depth, "width": width}
    if args.model == "gcn":
        options |= {"activation": args.activation, "concat": not args.no_concat}
    return build_graph_model(args.model, spec, **options)


def _data(args: argparse.Namespace) -> Graphs:
    drawn = {"num": args.num, "seed": args.seed}
    if args.data not in NETWORKS:
        told = {"label": args.label, "no_chemistry": args.no_chemistry}
        return molecules(args.data, task=args.task, **drawn, **told)
    if args.sizes is None:
        return neighbourhoods(args.data, task=args.task, **drawn)
    return neighbourhoods_of(args.data, sizes=tuple(args.sizes), **drawn)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench grain", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    known = ", ".join((*MOLECULES, *NETWORKS))
    add("--data", default="known", help=f"known, {known} or a csv of SMILES")
    add("--label", help="column of a csv of one's own")
    add("--num", type=int, default=100, help="graphs")
    add("--seed", type=int, default=42, help="of the shuffle")
    add("--sizes", type=int, nargs=2, help="least and most nodes")
    add(
        "--task",
        choices=TASKS,
        default="graph",
        help="what is labelled; of nodes, a random class each, drawn for graph i by "
        "numpy.random.default_rng((SEED, i))",
    )
    add("--model", choices=sorted(GRAPH_MODELS), default="gcn")
    add("--depth", type=int, nargs="+", default=[2])
    add("--width", type=int, nargs="+", default=[300])
    add("--activation", choices=("relu", "gelu"), default="relu")
    add("--no-concat", action="store_true", help="readout without X")
    add("--init-seed", type=int, default=0, help="of the weights")
    text = "standard deviation over the root mean square, of each leaf"
    add("--noise", type=float, nargs="+", default=[0.0], help=text)
    add("--float16", action="store_true", help="rounds the gradient")
    text = "of the client's own steps, after which it sends how its weights moved"
    add("--local-lr", type=float, nargs="+", default=[0.0], help=text)
    add("--local-steps", type=int, nargs="+", default=[1], help="how many of them")
    add("--no-chemistry", action="store_true")
    add("--attack", nargs="+", choices=("grain", *BASELINES), default=["grain"])
    add("--seconds", type=float, default=LIMITS.seconds, help="of GRAIN's search")
    text = "of a baseline, all at once; of TabLeak, its members"
    add("--restarts", type=int, default=10, help=text)
    add("--steps", type=int, default=2000, help="of a baseline")
    add("--verbose", action="store_true", help="a line per graph")
    add("--json", type=Path, help="where to write the rows")
    add("--show", type=Path, nargs="+", help="only prints the tables of such files")
    return parser
