"""Attacks of `bench.censor` on some images of one model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv import metrics
from jaxinv.attacks import Attack, inverting_gradients, iterate
from jaxinv.attacks.censor_matching import censor_matching
from jaxinv.attacks.censor_null_space import censor_labels
from jaxinv.attacks.censor_uploads import orthonormal
from jaxinv.defenses import censor, expected
from jaxinv.observation import Knowledge, Observation
from jaxinv.release import gradient
from jaxinv.target import Batch, Target

Row = dict[str, Any]
SMOOTH = {"signed": None, "schedule": "cosine", "learning_rate": 0.05}
"""Of both attacks on the LeNet, which is smooth."""


class Cells:
    """Attacks on some images of one model; a cell is one compiled call."""

    def __init__(
        self,
        target: Target,
        inputs: jax.Array,
        labels: jax.Array,
        keep: Callable[[Row], None],
        part: str,
    ):
        self.target, self.keep, self.part = target, keep, part
        self.inputs, self.labels = inputs, labels
        self.release = gradient(target.loss)
        self.params = jax.jit(target.init)(jax.random.key(0))
        self.keys = jax.random.split(jax.random.key(1), len(inputs))
        self.pictures = {"true": np.asarray(inputs)}

    def uploads(self, count: int, **options: Any) -> Any:
        """Leaves `[images, count, ...]`."""
        release = censor(self.release, self.target.loss, at_once=1, **options)

        def one(key, x, label):
            batch = Batch(x[None], label[None])
            keys = jax.random.split(key, count)
            return jax.lax.map(lambda k: release(k, self.params, batch), keys)

        run = jax.jit(lambda *args: jax.lax.map(lambda a: one(*a), args))
        return run(self.keys, self.inputs, self.labels)

    def gradients(self) -> Any:
        """Leaves `[images, 1, ...]`."""

        def one(args):
            batch = Batch(args[0][None], args[1][None])
            return self.release(self.keys[0], self.params, batch)

        found = jax.jit(lambda *args: jax.lax.map(one, args))(self.inputs, self.labels)
        return jax.tree.map(lambda leaf: leaf[:, None], found)

    def seen(self, update: Any, label: jax.Array | None) -> Observation:
        """One image's."""
        return Observation(
            params=jax.tree.map(lambda leaf: leaf[None], self.params),
            update=update,
            known=Knowledge(labels=None if label is None else label[None]),
            num_examples=1,
            spec=self.target.spec,
        )

    def read(self, updates: Any) -> jax.Array:
        """Labels `[images]` by the rule that knows CENSOR."""
        rule = censor_labels(self.target)
        run = jax.jit(
            lambda u: jax.lax.map(lambda o: rule(self.keys[0], self.seen(o, None)), u)
        )
        return run(updates)[:, 0]

    def attack(self, attack: Attack, like: Any) -> Callable[..., None]:
        """Compiles for updates shaped so; `(name, updates, labels, **facts)`."""
        run = iterate(attack, num_records=1)

        def one(args):
            key, update, label = args
            observation = self.seen(update, label)
            if observation.rounds > 1:
                observation = orthonormal(observation)
            found = run(key, observation)
            return found.batch.inputs[0], found.score

        start = time.perf_counter()
        args = self.keys, like, self.labels
        compiled = jax.jit(lambda *a: jax.lax.map(one, a)).lower(*args).compile()
        compile_s = time.perf_counter() - start

        def cell(name: str, updates: Any, labels: jax.Array, **facts: Any) -> None:
            start = time.perf_counter()
            found, score = compiled(self.keys, updates, labels)
            found = jax.block_until_ready(found)
            seconds = time.perf_counter() - start
            psnr = np.asarray(metrics.psnr(self.inputs, found), float)
            order = np.asarray(self.labels) == np.asarray(labels)
            control = metrics.psnr(jnp.roll(self.inputs, 1, axis=0), found)
            self.pictures[name] = np.asarray(found)
            row = {
                "part": self.part,
                "cell": name,
                "psnr_mean": psnr.mean(),
                "psnr_error": psnr.std(ddof=1) / len(psnr) ** 0.5,
                "psnr_median": float(np.median(psnr)),
                "psnr_other_image": float(control.mean()),
                "score_median": float(np.median(np.asarray(score))),
                "label_accuracy": order.mean(),
                "steps": attack.num_steps,
                "compile_s": compile_s,
                "run_s": seconds,
                "psnr": psnr.tolist(),
            }
            self.keep(row | facts)

        return cell

    def lenet(self, steps: int, counts: Sequence[int]) -> dict[str, np.ndarray]:
        """All cells of the part `attacks`."""
        most = max(counts)
        plain, one = self.gradients(), self.uploads(1, trials=20)
        many = self.uploads(most, trials=2)
        blind = inverting_gradients(self.target, num_steps=steps, tv=1e-3, **SMOOTH)
        cell = self.attack(blind, plain)
        cell("undefended", plain, self.labels)
        cell("blind", one, self.labels)
        guessed = jax.random.randint(jax.random.key(5), self.labels.shape, 0, 10)
        cell("blind, label drawn", one, guessed)
        mean = jax.tree.map(lambda u: u.mean(1, keepdims=True), many)
        cell(f"blind, mean of {most}", mean, self.labels)
        leak = self.uploads(100, trials=20, unit_projection=True)
        cell(
            "blind, unit_projection",
            jax.tree.map(lambda u: u[:, :1], leak),
            self.labels,
        )
        mean = jax.tree.map(lambda u: u.mean(1, keepdims=True), leak)
        cell("blind, unit_projection, mean of 100", mean, self.labels)
        original = self.uploads(1, trials=20, may_send_original=True)
        same = [
            jnp.all(a == b, axis=tuple(range(1, a.ndim)))
            for a, b in zip(*map(jax.tree.leaves, (original, plain)), strict=True)
        ]
        share = float(jnp.stack(same).all(0).mean())
        cell("blind, may_send_original", original, self.labels, sent_original=share)
        known = expected(censor(self.release, self.target.loss, trials=1), 2)
        eot = inverting_gradients(
            self.target, release=known, num_steps=steps, tv=1e-3, **SMOOTH
        )
        self.attack(eot, plain)("mean of 2 draws of its own", one, self.labels)
        for count in counts:
            options = {"num_steps": steps, "tv": 0.05, **SMOOTH}
            used = jax.tree.map(lambda u, n=count: u[:, :n], many)
            matching = censor_matching(self.target, **options)
            cell = self.attack(matching, used)
            cell(f"adaptive, T = {count}", used, self.labels, uploads=count, tv=0.05)
            read = self.read(used)
            if count in (1, 10):
                cell(f"adaptive, T = {count}, label read", used, read, uploads=count)
        alone = censor_matching(self.target, right_angles=0.0, **options)
        self.attack(alone, one)("norms alone", one, self.labels)
        return self.pictures

    def long(self, steps: int, count: int) -> None:
        """The part `long`: two cells with more steps."""
        plain, many = self.gradients(), self.uploads(count, trials=2)
        blind = inverting_gradients(self.target, num_steps=steps, tv=1e-3, **SMOOTH)
        self.attack(blind, plain)("undefended", plain, self.labels)
        options = {"num_steps": steps, "tv": 0.05, **SMOOTH}
        cell = self.attack(censor_matching(self.target, **options), many)
        cell(f"adaptive, T = {count}", many, self.labels, uploads=count, tv=0.05)

    def convnet(self, steps: int, counts: Sequence[int]) -> None:
        """All cells of the part `convnet`; one total variation for all of them."""
        tv, most = 0.01, max(counts)
        plain, many = self.gradients(), self.uploads(most, trials=1)
        first = jax.tree.map(lambda u: u[:, :1], many)
        cell = self.attack(
            inverting_gradients(self.target, num_steps=steps, tv=tv), plain
        )
        cell("undefended", plain, self.labels)
        cell("blind", first, self.labels)
        for count in counts:
            used = jax.tree.map(lambda u, n=count: u[:, :n], many)
            matching = censor_matching(self.target, num_steps=steps, tv=tv)
            cell = self.attack(matching, used)
            cell(f"adaptive, T = {count}", used, self.labels, uploads=count, tv=tv)
