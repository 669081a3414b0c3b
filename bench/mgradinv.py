"""MGradInv on federated recommenders: what several rounds give away of a user.

    JAXINV_DATA=... python -m bench mgradinv --model mf --rounds 1 2 --interval 10 \
        --start 0 --users 77 --json FILE

Writes one object per user and setting (mae in stars, exact: share of its ratings that
are right once put on the grid, auc, gradient_loss: the attacker's own score, status,
seconds: of its group's run over the users in it) and prints a table over them. The
ratings are MovieLens's (`movielens_small.npz`) where JAXINV_DATA has them, else
generated ones; --data names a file.
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
from rich.console import Console
from rich.table import Table

from bench.machine import machine
from jaxinv import metrics
from jaxinv.attacks.base import AttackFn, Status, iterate, restarts
from jaxinv.attacks.factorization import factorization
from jaxinv.attacks.mgradinv import EMBEDDINGS, mgradinv
from jaxinv.data.ratings import (
    Group,
    Ratings,
    generated_ratings,
    grouped,
    load_ratings,
)
from jaxinv.errors import InputError
from jaxinv.federation import (
    Clients,
    Training,
    observed_alone,
    observed_steps,
    observed_together,
    pairs_of,
    start,
    train_together,
)
from jaxinv.local_training import LocalTraining
from jaxinv.models.recommenders import (
    ACTIVATIONS,
    RECOMMENDERS,
    RatingScale,
    Recommender,
)
from jaxinv.observation import Knowledge, Observation

LEAST_RATINGS = 20
"""Of a user who is attacked."""
MATCHED = 1e-6
"""A gradient loss below this is a perfect match; wrong ratings are then the fault of
the gradient, not of the search."""


def main(argv: Sequence[str]) -> int:
    """Runs every setting, prints the table and writes the JSON."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.method == "closed_form" and args.model != "mf":
        parser.error("--method closed_form expects --model mf")
    wide = jax.enable_x64(True) if args.float64 else contextlib.nullcontext()
    rows: list[dict[str, Any]] = []
    with wide:
        ratings = _ratings(args.data)
        options = {"activation": args.activation} if args.model == "ncf" else {}
        model = RECOMMENDERS[args.model](RatingScale(), dim=args.dim, **options)
        users = _chosen(ratings, args.users, args.most_ratings)
        command = " ".join(["python -m bench mgradinv", *_plain(argv)])
        facts = {"command": command, "machine": machine(), "data": ratings.name}
        for count, interval, begin in itertools.product(
            args.rounds, args.interval, args.start
        ):
            steps = observed_steps(begin, interval, count)
            setting = {"rounds": count, "interval": interval, "start": begin}
            found = _one_setting(model, ratings, users, steps, args)
            rows += [setting | row | _options(args) | facts for row in found]
            if args.json:
                # After every setting: what is measured is kept.
                lines = ",\n ".join(json.dumps(row) for row in rows)
                args.json.write_text(f"[\n {lines}\n]\n", encoding="utf-8")
    _print(rows)
    return 0


def _one_setting(
    model: Recommender,
    ratings: Ratings,
    users: list[int],
    steps: np.ndarray,
    args: argparse.Namespace,
) -> list[dict[str, Any]]:
    key, key_attack, key_noise = jax.random.split(jax.random.key(args.seed), 3)
    training = _everyone(key, model, ratings, steps, args) if args.together else None
    rows = []
    for group in grouped(ratings, users, scale=model.scale.high):
        if training is not None:
            clients = observed_together(model, training, group)
        else:
            clients = observed_alone(
                key, model, group, ratings.num_items, steps, args.learning_rate
            )
        rows += _attacked(model, group, clients, key_attack, key_noise, args)
    return rows


def _everyone(
    key: jax.Array,
    model: Recommender,
    ratings: Ratings,
    steps: np.ndarray,
    args: argparse.Namespace,
) -> Training:
    public, users = start(key, model, ratings.num_items, np.arange(ratings.num_users))
    pairs = pairs_of(ratings, model.scale.high)
    pairs = (*pairs[:2], pairs[2].astype(users.dtype))
    server = "sum" if args.model == "mf" else "mean"

    def run(public: Any, users: jax.Array) -> Training:
        rate = args.learning_rate
        return train_together(
            model, public, users, pairs, jnp.asarray(steps), rate, server=server
        )

    return jax.jit(run)(public, users)


def _attacked(
    model: Recommender,
    group: Group,
    clients: Clients,
    key: jax.Array,
    key_noise: jax.Array,
    args: argparse.Namespace,
) -> list[dict[str, Any]]:
    observed, truth = clients.observed, clients.profiles
    update = observed.update
    if args.float16:
        update = jax.tree.map(lambda x: x.astype(jnp.float16).astype(x.dtype), update)
    if args.noise:
        update = _noisy(key_noise, update, args.noise)
    known = _granted(truth.user, args)
    observed = dataclasses.replace(observed, update=update, known=known)
    if args.wrong:
        # The negative control: every update held against the neighbour's model rows.
        observed = dataclasses.replace(observed, update=_rolled(observed.update))
    attack: AttackFn
    if args.method == "closed_form":
        attack = factorization(model)
    else:
        one = mgradinv(
            model, num_steps=args.steps, embedding=args.embedding, **dict(args.set)
        )
        attack = iterate(restarts(one, args.restarts, batch_size=args.restarts))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(group.users))

    def every(keys: jax.Array, observed: Observation) -> Any:
        return jax.lax.map(lambda pair: attack(*pair), (keys, observed))

    began = time.perf_counter()
    run = jax.jit(every).lower(keys, observed).compile()
    compile_s = time.perf_counter() - began
    began = time.perf_counter()
    found = jax.block_until_ready(run(keys, observed))
    seconds = (time.perf_counter() - began) / len(group.users)

    def judged(truth: Any, guess: Any, users: jax.Array) -> dict[str, jax.Array]:
        pair = truth.ratings, guess.ratings, truth.rated
        snapped = truth.ratings, model.scale.snapped(guess.ratings), truth.rated
        return {
            "mae": model.scale.high * metrics.rating_mae(*pair),
            "exact": metrics.exact_ratings(*snapped),
            "auc": metrics.interaction_auc(*pair),
            "embedding_error": metrics.embedding_error(truth.user, users),
        }

    marks = jax.jit(jax.vmap(judged))(truth, found.batch, found.batch.user.value)
    return [
        {
            "user": int(user),
            "num_ratings": int(group.rated[i].sum()),
            **{name: _short(values[i]) for name, values in marks.items()},
            "gradient_loss": _short(found.score[i]),
            "rating_error": _short(model.scale.high * found.stats["rating_error"][i]),
            "status": Status(int(found.status[i])).name,
            "seconds": _short(seconds),
            "compile_s": _short(compile_s),
        }
        for i, user in enumerate(group.users)
    ]


def _granted(users: jax.Array, args: argparse.Namespace) -> Knowledge:
    """What the attack needs to be told."""
    local = None
    if dict(args.set).get("coupling", "free") != "free":
        local = LocalTraining(args.learning_rate, local_steps=args.interval[0])
    return Knowledge(
        users=users if args.embedding == "known" else None, local_training=local
    )


def _option(text: str) -> tuple[str, Any]:
    """`spread=0.5` as `("spread", 0.5)`."""
    name, _, value = text.partition("=")
    with contextlib.suppress(ValueError):
        return name, json.loads(value)
    return name, value


def _short(value: Any) -> float | None:
    """Four digits, for there are many rows; None for what is not finite."""
    return float(f"{value:.4g}") if np.isfinite(value) else None


def _noisy(key: jax.Array, update: Any, share: float) -> Any:
    """Gaussian noise on every leaf, as a share of its root mean square."""
    leaves, structure = jax.tree.flatten(update)
    keys = jax.random.split(key, len(leaves))
    noisy = [
        x + share * jnp.sqrt(jnp.mean(x**2)) * jax.random.normal(k, x.shape, x.dtype)
        for k, x in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy)


def _rolled(update: Any) -> Any:
    return jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), update)


def _chosen(ratings: Ratings, count: int, most: int | None) -> list[int]:
    """`count` users spread evenly over those with enough ratings, and not too many."""
    numbers = np.bincount(ratings.user, minlength=ratings.num_users)
    fitting = numbers >= LEAST_RATINGS
    if most is not None:
        fitting &= numbers <= most
    able = np.flatnonzero(fitting)
    if not len(able):
        raise InputError(
            f"most_ratings is {most}; expected a number that leaves some user with at "
            f"least {LEAST_RATINGS} ratings"
        )
    places = np.linspace(0, len(able) - 1, min(count, len(able)))
    return [int(able[i]) for i in places.astype(int)]


def _ratings(path: Path | None) -> Ratings:
    if path is None and "JAXINV_DATA" in os.environ:
        path = Path(os.environ["JAXINV_DATA"]) / "movielens_small.npz"
    return load_ratings(path) if path else generated_ratings()


def _options(args: argparse.Namespace) -> dict[str, Any]:
    embedding = None if args.method == "closed_form" else args.embedding
    names = ("model", "method", "dim", "learning_rate", "restarts", "steps", "seed")
    names += ("noise", "float16", "float64", "together", "wrong")
    activation = args.activation if args.model == "ncf" else None
    more = {"embedding": embedding, "activation": activation, **dict(args.set)}
    return {name: getattr(args, name) for name in names} | more


def _plain(argv: Sequence[str]) -> list[str]:
    words = list(argv)
    for name in ("--json", "--data"):
        if name in words:
            at = words.index(name)
            del words[at : at + 2]
    return words


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table()
    titles = "rounds interval start users exact MAE AUC loss matched,wrong ms/user"
    for title in titles.split():
        table.add_column(title.replace(",", ", "))
    keys = ("rounds", "interval", "start")
    for setting, group in itertools.groupby(rows, lambda r: [r[k] for k in keys]):
        part = list(group)
        whole = [row["exact"] == 1 for row in part]
        column = {
            name: np.array([row[name] for row in part], float)
            for name in ("mae", "auc", "gradient_loss", "seconds")
        }
        wrong = ~np.array(whole) & (column["gradient_loss"] < MATCHED)
        mae = column["mae"]
        half = 1.96 * mae.std(ddof=1) / len(mae) ** 0.5 if len(mae) > 1 else np.nan
        table.add_row(
            *map(str, setting),
            str(len(part)),
            f"{np.mean(whole):.1%}",
            f"{mae.mean():.3f} ± {half:.3f}",
            f"{np.nanmean(column['auc']):.3f}",
            f"{np.nanmedian(column['gradient_loss']):.1e}",
            f"{np.mean(wrong):.0%}",
            f"{1e3 * column['seconds'].mean():.1f}",
        )
    Console(width=110).print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench mgradinv")
    parser.add_argument("--model", choices=RECOMMENDERS, default="mf")
    parser.add_argument(
        "--method", choices=("mgradinv", "closed_form"), default="mgradinv"
    )
    parser.add_argument("--embedding", choices=EMBEDDINGS, default="joint")
    parser.add_argument("--rounds", type=int, nargs="+", default=[2])
    parser.add_argument("--interval", type=int, nargs="+", default=[10])
    parser.add_argument("--start", type=int, nargs="+", default=[0])
    parser.add_argument("--users", type=int, default=77)
    parser.add_argument("--most-ratings", type=int, help="of a user who is attacked")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--activation", choices=ACTIVATIONS, default="relu")
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--set", type=_option, action="append", default=[])
    parser.add_argument("--restarts", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", type=float, default=0.0, help="share of each leaf")
    parser.add_argument("--float16", action="store_true", help="the update, on its way")
    parser.add_argument("--float64", action="store_true", help="everything")
    parser.add_argument("--together", action="store_true", help="all users train")
    parser.add_argument("--wrong", action="store_true", help="the negative control")
    parser.add_argument("--data", type=Path, help=".csv or .npz of ratings")
    parser.add_argument("--json", type=Path)
    return parser
