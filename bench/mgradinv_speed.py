"""How many users a second MGradInv attacks, beside PyTorch taking the same steps.

    JAXINV_DATA=... python -m bench mgradinv_speed --json FILE

Matrix factorisation, every user of MovieLens from `--restarts` starts in one compiled
call; its compilation apart. PyTorch (`bench.torch_mgradinv`) attacks a subset, spread
over the lengths of the users' lists, from the same starts: "loop" one start after
another by autograd, "batched" all starts of a user at once, "by hand" with formulas
for this model instead of autograd; each with every number of threads in `--threads`.
A ratio compares users a second on the same subset, a call of its own for JAX.
Repetitions alternate and medians count. "exact" is the share of users whose every
rating is right once put on the grid.

JAX's seconds include drawing the starts and all that the attack says of its winner,
PyTorch's the steps and the scores alone. Measure on a machine that does nothing else
(`load_average` is that at the beginning): on busy cores PyTorch's threads wait for one
another at every operation.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.machine import machine
from jaxinv import metrics
from jaxinv.attacks.base import Attack, iterate, restarts
from jaxinv.attacks.mgradinv import STARTS, mgradinv
from jaxinv.data.ratings import Ratings, generated_ratings, grouped, load_ratings
from jaxinv.federation import Clients, observed_alone, observed_steps
from jaxinv.models.recommenders import RatingScale, Recommender, mf

PEERS = {
    "torch loop": ("autograd", False),
    "torch batched": ("autograd", True),
    "torch by hand": ("by_hand", True),
}
"""Where derivatives come from, and whether the starts of a user run at once."""


class Group(NamedTuple):
    """Users padded to one length, and the key of each one's starts."""

    keys: jax.Array
    clients: Clients


class Contender(NamedTuple):
    """What is timed."""

    impl: str
    facts: dict[str, Any]
    run: Callable[[], tuple[float, list[float]]]
    """Seconds, and the share of exact ratings of each user."""


def main(argv: Sequence[str]) -> int:
    """Measures, prints the table and writes the JSON."""
    parser = _parser()
    args = parser.parse_args(argv)
    if importlib.util.find_spec("torch") is None:
        parser.error("the peer is PyTorch: pip install 'jaxinv[bench]'")
    jax.config.update("jax_platforms", "cpu")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    ratings = _ratings()
    model = mf(RatingScale(), dim=args.dim)
    one = mgradinv(model, num_steps=args.steps, start=args.start)
    attack = restarts(one, args.restarts, batch_size=args.restarts)
    order = np.argsort(np.bincount(ratings.user), kind="stable")
    places = (np.arange(args.subset) + 0.5) * len(order) / args.subset
    subset = _groups(model, ratings, order[np.unique(places.astype(int))], args)

    ours = _compiled("jaxinv", model, attack, subset)
    everyone = _groups(model, ratings, order, args)
    whole = _compiled("jaxinv, everyone", model, attack, everyone)
    peers = [
        _peer(impl, threads, model, attack, subset, args)
        for impl in PEERS
        for threads in args.threads
    ]
    rows = _measured([ours, whole, *peers], args.repeats)
    for row in rows[2:]:
        row["ratio"] = rows[0]["users_per_s"] / row["users_per_s"]
    _print(rows)
    if args.json:
        names = "restarts steps start rounds interval dim learning_rate repeats seed"
        facts = {name: getattr(args, name) for name in names.split()}
        peer = f"PyTorch {importlib.metadata.version('torch')}"
        facts |= {"data": ratings.name, "load_average": load}
        facts |= {"machine": f"{machine()}, {peer}"}
        lines = ",\n ".join(json.dumps(row | facts) for row in rows)
        args.json.write_text(f"[\n {lines}\n]\n", encoding="utf-8")
    return 0


def _groups(
    model: Recommender, ratings: Ratings, users: np.ndarray, args: argparse.Namespace
) -> list[Group]:
    steps = observed_steps(0, args.interval, args.rounds)
    key, key_attack = jax.random.split(jax.random.key(args.seed))
    return [
        Group(
            jax.vmap(jax.random.fold_in, (None, 0))(key_attack, group.users),
            observed_alone(
                key, model, group, ratings.num_items, steps, args.learning_rate
            ),
        )
        for group in grouped(ratings, users.tolist(), scale=model.scale.high)
    ]


def _compiled(
    impl: str, model: Recommender, attack: Attack, groups: list[Group]
) -> Contender:
    """All groups in one call. One user at a time, its starts under vmap.

    More users under the vmap are no faster: all then wait for the one whose conjugate
    gradients take longest.
    """
    attack_fn = iterate(attack)

    def every(given: list[Any]) -> list[Any]:
        return [jax.lax.map(lambda pair: attack_fn(*pair), group) for group in given]

    given = [(group.keys, group.clients.observed) for group in groups]
    began = time.perf_counter()
    compiled = jax.jit(every).lower(given).compile()
    compile_s = time.perf_counter() - began

    def run() -> tuple[float, list[float]]:
        began = time.perf_counter()
        found = jax.block_until_ready(compiled(given))
        seconds = time.perf_counter() - began
        return seconds, _exact(model, groups, [part.batch.ratings for part in found])

    return Contender(impl, {"compile_s": compile_s}, run)


def _peer(
    impl: str,
    threads: int,
    model: Recommender,
    attack: Attack,
    groups: list[Group],
    args: argparse.Namespace,
) -> Contender:
    import torch

    from bench.torch_mgradinv import mgradinv as torch_mgradinv

    derivatives, batched = PEERS[impl]
    first = jax.jit(jax.vmap(lambda k, o: attack.init(k, o).users))
    clients = []
    for group in groups:
        observed = group.clients.observed
        arrays = observed.params["items"], observed.update["items"]
        arrays = [np.array(x) for x in (*arrays, first(group.keys, observed))]
        clients.append(list(zip(*arrays, strict=True)))

    def attacked(client: Sequence[np.ndarray], num_steps: int) -> np.ndarray:
        items, update, starts = client
        found = [
            torch_mgradinv(
                items,
                update,
                part,
                model.scale.box(),
                staged=args.start == "random",
                num_steps=num_steps,
                derivatives=derivatives,
            )
            for part in np.array_split(starts, 1 if batched else len(starts))
        ]
        best = np.argmin(np.concatenate([part.scores for part in found]))
        return np.concatenate([part.ratings for part in found])[best]

    def run() -> tuple[float, list[float]]:
        torch.set_num_threads(threads)
        attacked(clients[0][0], 2)  # PyTorch's first call is slow.
        began = time.perf_counter()
        found = [
            np.stack([attacked(client, args.steps) for client in group])
            for group in clients
        ]
        seconds = time.perf_counter() - began
        return seconds, _exact(model, groups, found)

    return Contender(impl, {"threads": threads}, run)


def _exact(model: Recommender, groups: list[Group], found: list[Any]) -> list[float]:
    """The share of each user's ratings that are right on the grid."""
    shares = []
    for group, guess in zip(groups, found, strict=True):
        truth = group.clients.profiles
        snapped = model.scale.snapped(jnp.asarray(guess))
        every = jax.vmap(metrics.exact_ratings)(truth.ratings, snapped, truth.rated)
        shares += every.tolist()
    return shares


def _measured(contenders: list[Contender], repeats: int) -> list[dict[str, Any]]:
    """A row for each; they take turns, so that noise meets them all."""
    seconds: list[list[float]] = [[] for _ in contenders]
    shares: list[list[float]] = [[] for _ in contenders]
    for _ in range(repeats):
        for i, contender in enumerate(contenders):
            took, shares[i] = contender.run()
            seconds[i].append(took)
    return [
        {
            "impl": contender.impl,
            **contender.facts,
            "users": len(shares[i]),
            "users_per_s": len(shares[i]) / statistics.median(seconds[i]),
            "seconds": seconds[i],
            "exact": float(np.mean(np.asarray(shares[i]) == 1)),
        }
        for i, contender in enumerate(contenders)
    ]


def _ratings() -> Ratings:
    folder = os.environ.get("JAXINV_DATA")
    if folder is None:
        return generated_ratings()
    return load_ratings(Path(folder) / "movielens_small.npz")


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table()
    for title in ("", "threads", "users", "users/s", "ratio", "exact", "compile s"):
        table.add_column(title)
    for row in rows:
        table.add_row(
            row["impl"],
            str(row.get("threads", "")),
            str(row["users"]),
            f"{row['users_per_s']:.2f}",
            f"{row['ratio']:.1f}" if "ratio" in row else "",
            f"{row['exact']:.1%}",
            f"{row['compile_s']:.1f}" if "compile_s" in row else "",
        )
    Console(width=100).print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench mgradinv_speed")
    cores = os.cpu_count() or 1
    add = parser.add_argument
    add("--subset", type=int, default=16, help="users that PyTorch attacks")
    add("--threads", type=int, nargs="+", default=sorted({1, cores}), help="PyTorch's")
    add("--restarts", type=int, default=8)
    add("--steps", type=int, default=60)
    add("--start", choices=STARTS, default="read")
    add("--rounds", type=int, default=2)
    add("--interval", type=int, default=10)
    add("--dim", type=int, default=64)
    add("--learning-rate", type=float, default=0.05)
    add("--repeats", type=int, default=3)
    add("--seed", type=int, default=0)
    add("--json", type=Path)
    return parser
