"""MGradInv on federated recommenders: what several rounds give away of a user.

    JAXINV_DATA=... python -m bench mgradinv --model mf --rounds 1 2 --interval 10 \
        --start 0 --users 77 --json FILE

Writes one object per user and setting (mae in units of the data, exact: share of its
ratings that are right once put on the grid, auc, f1 of interactions, items_f1: of the
items found to be rated, gradient_loss: the attacker's own score, status, seconds: of
its group's run over the users in it) and prints a table over them. The ratings are
MovieLens's (`movielens_small.npz`) where JAXINV_DATA has them, else generated ones;
--data names a file.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.machine import machine
from bench.mgradinv_table import print_rows
from jaxinv.attacks.base import AttackFn, Status, iterate, restarts
from jaxinv.attacks.factorization import factorization
from jaxinv.attacks.mgradinv import EMBEDDINGS, mgradinv
from jaxinv.audits.recommender.clients import held_by_clients, simulated
from jaxinv.audits.recommender.judge import marks
from jaxinv.data.raters import raters, spread
from jaxinv.data.ratings import Group, Ratings, generated_ratings, load_ratings
from jaxinv.federation import Clients, observed_steps
from jaxinv.local_training import LocalTraining
from jaxinv.models.recommenders import (
    ACTIVATIONS,
    RECOMMENDERS,
    Recommender,
    build_recommender,
)
from jaxinv.observation import Knowledge, Observation
from jaxinv.transit import in_transit

LEAST_RATINGS = 20
"""Of a user who is attacked."""


def main(argv: Sequence[str]) -> int:
    """Runs every setting, prints the table and writes the JSON."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.method == "closed_form" and args.model != "mf":
        parser.error("--method closed_form expects --model mf")
    if args.method == "closed_form" and args.implicit:
        parser.error("--method closed_form expects explicit ratings, not --implicit")
    wide = jax.enable_x64(True) if args.float64 else contextlib.nullcontext()
    rows: list[dict[str, Any]] = []
    with wide:
        ratings = _ratings(args.data)
        users = spread(raters(ratings, LEAST_RATINGS, args.most_ratings), args.users)
        ratings, scale = held_by_clients(
            ratings, implicit=args.implicit, seed=args.seed
        )
        options = {"activation": args.activation} if args.model == "ncf" else {}
        model = build_recommender(args.model, scale, dim=args.dim, **options)
        command = " ".join(["python -m bench mgradinv", *_plain(argv)])
        facts = {"command": command, "machine": machine(), "data": ratings.name}
        for count, interval, begin in itertools.product(
            args.rounds, args.interval, args.start
        ):
            setting = {"rounds": count, "interval": interval, "start": begin}
            found = _one_setting(model, ratings, users, setting, args)
            rows += [setting | row | _options(args) | facts for row in found]
            if args.json:
                # After every setting: what is measured is kept.
                lines = ",\n ".join(json.dumps(row) for row in rows)
                args.json.write_text(f"[\n {lines}\n]\n", encoding="utf-8")
    print_rows(rows)
    return 0


def _one_setting(
    model: Recommender,
    ratings: Ratings,
    users: list[int],
    setting: dict[str, int],
    args: argparse.Namespace,
) -> list[dict[str, Any]]:
    key, key_attack, key_noise = jax.random.split(jax.random.key(args.seed), 3)
    rows = []
    for group, clients in simulated(
        key,
        model,
        ratings,
        users,
        observed_steps(**setting),
        args.learning_rate,
        together=args.together,
        every_item=args.all_items,
    ):
        known = _granted(clients.profiles.user, setting["interval"], args)
        seen = _arrived(key_noise, group, clients.observed, args)
        seen = dataclasses.replace(seen, known=known)
        rows += _attacked(model, group, clients, seen, key_attack, args)
    return rows


def _arrived(
    key: jax.Array, group: Group, sent: Observation, args: argparse.Namespace
) -> Observation:
    """What the server has of each client, leaves `[clients, ...]`."""

    def one(user: jax.Array, sent: Observation) -> Observation:
        return in_transit(
            jax.random.fold_in(key, user),
            sent,
            noise=args.noise,
            every_row=args.all_items,
            float16=args.float16,
        )

    seen = jax.jit(jax.vmap(one))(jnp.asarray(group.users), sent)
    if args.wrong:
        # The negative control: every update held against the neighbour's model rows.
        rolled = jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), seen.update)
        seen = dataclasses.replace(seen, update=rolled)
    return seen


def _granted(users: jax.Array, interval: int, args: argparse.Namespace) -> Knowledge:
    """What the attack needs to be told."""
    local = None
    if dict(args.set).get("coupling", "free") != "free":
        local = LocalTraining(args.learning_rate, local_steps=interval)
    return Knowledge(
        users=users if args.embedding == "known" else None, local_training=local
    )


def _attacked(
    model: Recommender,
    group: Group,
    clients: Clients,
    seen: Observation,
    key: jax.Array,
    args: argparse.Namespace,
) -> list[dict[str, Any]]:
    attack: AttackFn
    if args.method == "closed_form":
        attack = factorization(model)
    else:
        options = {"embedding": args.embedding, **_attack_options(args)}
        one = mgradinv(model, num_steps=args.steps, **options)
        attack = iterate(restarts(one, args.restarts, batch_size=args.restarts))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(group.users))

    def every(keys: jax.Array, seen: Observation) -> Any:
        return jax.lax.map(lambda pair: attack(*pair), (keys, seen))

    began = time.perf_counter()
    run = jax.jit(every).lower(keys, seen).compile()
    compile_s = time.perf_counter() - began
    began = time.perf_counter()
    found = jax.block_until_ready(run(keys, seen))
    seconds = (time.perf_counter() - began) / len(group.users)

    judged = jax.jit(jax.vmap(lambda truth, found: marks(model, truth, found)))
    values = judged(clients.profiles, found.batch)
    return [
        {
            "user": int(user),
            "num_ratings": int(group.rated[i].sum()),
            **{name: _short(value[i]) for name, value in values.items()},
            "gradient_loss": _short(found.score[i]),
            "rating_error": _short(model.scale.high * found.stats["rating_error"][i]),
            "status": Status(int(found.status[i])).name,
            "seconds": _short(seconds),
            "compile_s": _short(compile_s),
        }
        for i, user in enumerate(group.users)
    ]


def _attack_options(args: argparse.Namespace) -> dict[str, Any]:
    """What --set says, and that all items are candidates where all are sent."""
    items = {"items": "all"} if args.all_items and args.method == "mgradinv" else {}
    return items | dict(args.set)


def _option(text: str) -> tuple[str, Any]:
    """`spread=0.5` as `("spread", 0.5)`."""
    name, _, value = text.partition("=")
    with contextlib.suppress(ValueError):
        return name, json.loads(value)
    return name, value


def _short(value: Any) -> float | None:
    """Four digits, for there are many rows; None for what is not finite."""
    return float(f"{value:.4g}") if np.isfinite(value) else None


def _ratings(path: Path | None) -> Ratings:
    if path is None and "JAXINV_DATA" in os.environ:
        path = Path(os.environ["JAXINV_DATA"]) / "movielens_small.npz"
    return load_ratings(path) if path else generated_ratings()


def _options(args: argparse.Namespace) -> dict[str, Any]:
    names = ("model", "method", "dim", "learning_rate", "restarts", "steps", "seed")
    names += ("noise", "float16", "float64", "together", "wrong")
    names += ("implicit", "all_items")
    return {name: getattr(args, name) for name in names} | {
        "embedding": None if args.method == "closed_form" else args.embedding,
        "activation": args.activation if args.model == "ncf" else None,
        "attack_options": _attack_options(args),
    }


def _plain(argv: Sequence[str]) -> list[str]:
    words = list(argv)
    for name in ("--json", "--data"):
        if name in words:
            at = words.index(name)
            del words[at : at + 2]
    return words


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench mgradinv")
    add = parser.add_argument
    add("--model", choices=RECOMMENDERS, default="mf")
    add("--method", choices=("mgradinv", "closed_form"), default="mgradinv")
    add("--embedding", choices=EMBEDDINGS, default="joint")
    add("--rounds", type=int, nargs="+", default=[2])
    add("--interval", type=int, nargs="+", default=[10])
    add("--start", type=int, nargs="+", default=[0])
    add("--users", type=int, default=77)
    add("--most-ratings", type=int, help="of a user who is attacked")
    add("--dim", type=int, default=64)
    add("--activation", choices=ACTIVATIONS, default="relu")
    add("--learning-rate", type=float, default=0.05)
    add("--set", type=_option, action="append", default=[])
    add("--restarts", type=int, default=8)
    add("--steps", type=int, default=60)
    add("--seed", type=int, default=0)
    add("--noise", type=float, default=0.0, help="share of each leaf")
    add("--float16", action="store_true", help="the update, on its way")
    add("--float64", action="store_true", help="everything")
    add("--together", action="store_true", help="all users train")
    add("--implicit", action="store_true", help="interactions and negatives")
    add("--all-items", action="store_true", help="rows of all items, noise on all")
    add("--wrong", action="store_true", help="the negative control")
    add("--data", type=Path, help=".csv or .npz of ratings")
    add("--json", type=Path)
    return parser
