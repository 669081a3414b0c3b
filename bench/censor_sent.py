"""Parts of `bench.censor` that look at what is sent, without a search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv import metrics, models
from jaxinv.attacks.censor_null_space import censor_labels, censor_null_space
from jaxinv.defenses.censor import censor, replaced
from jaxinv.observation import Knowledge, Observation
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec, Target

Keep = Callable[[dict[str, Any]], None]


def labels(spec: Spec, inputs: jax.Array, true: jax.Array, keep: Keep) -> None:
    """Labels by uploads and batch size; one trial, for the bias is drawn on its own."""
    target = models.build("lenet", spec)
    params = jax.jit(target.init)(jax.random.key(0))
    release, rule = gradient(target.loss), censor_labels(target)
    batches, most = 50, 12

    def seen(update: Any, num: int) -> Observation:
        held = jax.tree.map(lambda leaf: leaf[None], params)
        return Observation(held, update, Knowledge(), num, spec)

    for num in (1, 4, 16):
        picks = jax.random.permutation(jax.random.key(num), len(inputs))
        picks = picks[: num * batches].reshape(batches, num)

        def send(args, num=num):
            key, pick = args
            sent = release(key, params, Batch(inputs[pick], true[pick]))["linear"]
            keys = jax.random.split(key, most)
            uploads = jax.lax.map(lambda k: replaced(k, sent["bias"]), keys)
            return uploads, sent["bias"]

        keys = jax.random.split(jax.random.key(7), batches)
        uploads, sent = jax.jit(lambda *a: jax.lax.map(send, a))(keys, picks)
        zeros = jax.tree.map(lambda leaf: jnp.zeros((1, *leaf.shape)), params)
        counts = np.stack(
            [np.bincount(row, minlength=10) for row in np.asarray(true[picks])]
        )
        for count in (1, 2, 3, 5, 8, 9, 12) if num == 1 else (9, 12):

            def read(uploads, num=num, count=count):
                update = jax.tree.map(
                    lambda z: jnp.broadcast_to(z, (count, *z.shape[1:])), zeros
                )
                update["linear"]["bias"] = uploads[:count]
                return rule(keys[0], seen(update, num))

            found = np.asarray(jax.jit(lambda u, f=read: jax.lax.map(f, u))(uploads))
            got = np.stack([np.bincount(row, minlength=10) for row in found])
            right = 1 - np.abs(got - counts).sum(1) / (2 * num)
            keep(
                {
                    "part": "labels",
                    "batch": num,
                    "uploads": count,
                    "batches": batches,
                    "accuracy": right.mean(),
                    "accuracy_error": right.std(ddof=1) / batches**0.5,
                    "whole_batches": float((right == 1).mean()),
                    "chance": float(
                        (
                            1
                            - np.abs(np.roll(counts, 1, 0) - counts).sum(1) / (2 * num)
                        ).mean()
                    ),
                }
            )
        if num == 1:
            # The length alone, against that of p - e_class for p of a grey image.
            grey = Batch(jnp.full((1, 32, 32, 3), 0.5), jnp.zeros(1, int))
            told = release(keys[0], params, grey)["linear"]["bias"].at[0].add(1.0)
            sizes = jnp.linalg.norm(told - jnp.eye(10), axis=1)
            found = jnp.abs(jnp.linalg.norm(sent, axis=1)[:, None] - sizes).argmin(1)
            right = np.asarray(found == true[picks[:, 0]], float)
            keep(
                {
                    "part": "norms",
                    "batch": 1,
                    "uploads": 1,
                    "batches": batches,
                    "accuracy": right.mean(),
                    "accuracy_error": right.std(ddof=1) / batches**0.5,
                }
            )


def exact(inputs: jax.Array, true: jax.Array, keep: Keep, *, size: int = 8) -> None:
    """The closed form on small images, around the number of uploads it needs."""
    small = jax.image.resize(inputs[:4], (4, size, size, 3), "linear")
    spec = Spec((size, size, 3), 10)
    target = models.build("mlp", spec, widths=(24,))
    params = jax.jit(target.init)(jax.random.key(0))
    release = gradient(target.loss)
    attack = censor_null_space(target)
    need = size * size * 3 - 1
    for count in (need - 1, need, need + 1, need + need // 4):

        def one(args, count=count):
            key, x, label = args
            sent = release(key, params, Batch(x[None], label[None]))
            keys = jax.random.split(key, count)
            update = jax.lax.map(lambda k: replaced(k, sent), keys)
            held = jax.tree.map(lambda leaf: leaf[None], params)
            found = attack(key, Observation(held, update, Knowledge(), 1, spec))
            return (
                found.batch.inputs[0],
                found.batch.labels[0],
                found.status,
                found.stats,
            )

        keys = jax.random.split(jax.random.key(3), 4)
        run = jax.jit(lambda *a, f=one: jax.lax.map(f, a))
        found, read, status, stats = run(keys, small, true[:4])
        keep(
            {
                "part": "exact",
                "numbers": need + 1,
                "uploads": count,
                "psnr": np.asarray(metrics.psnr(small, found), float).tolist(),
                "labels_right": float((read == true[:4]).mean()),
                "status": np.asarray(status).tolist(),
                **{k: np.asarray(v, float).tolist() for k, v in stats.items()},
            }
        )


def defects(
    name: str, target: Target, inputs: jax.Array, true: jax.Array, keep: Keep
) -> None:
    """How near the update is to the gradient, and what a step along it changes."""
    params = jax.jit(target.init)(jax.random.key(0))
    release = gradient(target.loss)
    defended = {
        "as published": censor(release, target.loss, at_once=1),
        "curvature": censor(release, target.loss, at_once=1, selection="curvature"),
        "unit_projection": censor(
            release, target.loss, at_once=1, unit_projection=True
        ),
        "may_send_original": censor(
            release, target.loss, at_once=1, may_send_original=True
        ),
    }
    keys = jax.random.split(jax.random.key(2), len(inputs))
    criteria = {}
    for kind, made in defended.items():

        def one(args, made=made):
            key, x, label = args
            batch = Batch(x[None], label[None])
            sent = release(key, params, batch)
            found = made.drawn(key, params, batch)
            pairs = list(zip(*map(jax.tree.leaves, (found.update, sent)), strict=True))
            cosine = jnp.stack(
                [
                    jnp.sum(a * b)
                    / jnp.maximum(jnp.linalg.norm(a) * jnp.linalg.norm(b), 1e-30)
                    for a, b in pairs
                ]
            )
            whole = sum(jnp.sum(a * b) for a, b in pairs)
            whole /= sum(jnp.sum(b * b) for _, b in pairs)
            before = target.loss(params, batch)

            def change(direction, step):
                moved = jax.tree.map(lambda w, d: w - step * d, params, direction)
                return target.loss(moved, batch) - before

            steps = jnp.array([1e-3, 1e-2, 1e-1])
            changes = [
                jax.lax.map(lambda s, d=d: change(d, s), steps)
                for d in (found.update, sent)
            ]
            return cosine, whole, found.chosen, found.criterion, before, *changes

        run = jax.jit(lambda *a, f=one: jax.lax.map(f, a))
        cosine, whole, chosen, criterion, before, along, plain = map(
            np.asarray, run(keys, inputs, true)
        )
        criteria[kind] = criterion
        keep(
            {
                "part": "defects",
                "target": name,
                "cell": kind,
                "largest_cosine_of_a_tensor": np.abs(cosine).max(),
                "mean_abs_cosine_of_a_tensor": np.abs(cosine).mean(),
                "inner_product_over_norm2": whole.mean(),
                "sent_original": float((chosen == -1).mean()),
                "steps": [1e-3, 1e-2, 1e-1],
                "change_of_loss_along_update": along.mean(0).tolist(),
                "change_of_loss_along_gradient": plain.mean(0).tolist(),
                "different_losses_of_20": float(
                    np.mean([len(np.unique(row)) for row in criterion])
                ),
                "trials_below_the_start": float((criterion < before[:, None]).mean())
                if kind != "curvature"
                else float((criterion < 0).mean()),
            }
        )
    loss, curvature = (
        criteria[k].argsort(1).argsort(1) for k in ("as published", "curvature")
    )
    ranks = [np.corrcoef(a, b)[0, 1] for a, b in zip(loss, curvature, strict=True)]
    keep(
        {
            "part": "defects",
            "target": name,
            "cell": "order by loss against by curvature",
            "rank_correlation": float(np.mean(ranks)),
            "same_trial": float((loss.argmin(1) == curvature.argmin(1)).mean()),
        }
    )
