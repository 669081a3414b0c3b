"""How allocations of `bench.hardening` are judged: equal in utility, then attacked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.hardening_settings import (
    Problem,
    Setting,
    attack_of,
    extra,
    spectral_start,
    tempered,
)
from jaxinv import hardening, space
from jaxinv.attacks.base import iterate
from jaxinv.defenses.noise import gaussian_noise
from jaxinv.defenses.protection import protect
from jaxinv.hardening.privacy import observed
from jaxinv.release import gradient

STAGES = (0.0, 0.5, 1.0)
"""Powers of the attack's weights, one stage after the other."""


def equal_in_utility(
    problem: Problem, allocations: dict[str, Any], runs: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scaled to the harm of the uniform one; harm measured again on other draws."""
    measure = jax.jit(lambda *inputs: extra(problem, *inputs))
    keys, fresh = jax.random.split(jax.random.key(7), (2, runs))
    wanted = float(measure(problem.data, keys, allocations["uniform"]).mean())
    scaled, harm, again = {}, {}, np.zeros(runs)
    for name, std in allocations.items():
        low, high = np.log(0.02), np.log(20.0)
        for _ in range(0 if name == "uniform" else 9):
            middle = float(np.exp((low + high) / 2))
            more = jax.tree.map(lambda s, f=middle: f * s, std)
            below = float(measure(problem.data, keys, more).mean()) < wanted
            low, high = (np.log(middle), high) if below else (low, np.log(middle))
        factor = 1.0 if name == "uniform" else float(np.exp((low + high) / 2))
        scaled[name] = jax.tree.map(lambda s, f=factor: f * s, std)
        values = np.asarray(measure(problem.data, fresh, scaled[name]))
        again = values if name == "uniform" else again
        harm[name] = {
            "factor": factor,
            "matched": float(measure(problem.data, keys, scaled[name]).mean()),
            "fresh": interval(values),
            "fresh, over uniform": interval(values - again),
        }
    return scaled, harm


def attacker(
    setting: Setting, problem: Problem, args: Any
) -> Callable[[Any], dict[str, jax.Array]]:
    """`(std) -> PSNR [images]` by attack, as one compiled program for both."""
    target = problem.target
    decibels = hardening.decibels(target)

    def one(index: Any, std: Any, known: Any, params: Any, attacked: Any) -> Any:
        batch = example(attacked, index)
        keys = jax.random.split(jax.random.key(index), 3)
        release = protect(gradient(target.loss), gaussian_noise(std))
        seen = observed(keys[0], release, target, params, batch, True)
        start = jax.random.normal(keys[1], batch.inputs.shape)
        if setting.model == "mlp":
            start = spectral_start(seen.round(0)[1], target.spec)
        start = jnp.where(known, batch.inputs, start)

        def stage(inputs: jax.Array, power: jax.Array):
            where = space.pixels(
                target.spec, labels="known", initial=lambda key, shape: inputs
            )
            weights = tempered(std, power, params)
            attack = attack_of(target, weights, where, args.stage)
            found = iterate(attack)(keys[2], seen).batch
            return found.inputs, -decibels(batch, found)

        powers = jnp.where(known, 1.0, jnp.asarray(STAGES))
        return jax.lax.scan(stage, start, powers)[1]

    images = jnp.arange(args.images)
    run = jax.jit(lambda *inputs: jax.lax.map(lambda i: one(i, *inputs), images))

    def attack(std: Any) -> dict[str, jax.Array]:
        # [images, stages] each
        found, truth = (
            run(std, known, problem.params, problem.attacked) for known in (False, True)
        )
        by_stage = {f"stage {p:g}": found[:, i] for i, p in enumerate(STAGES)}
        return {**by_stage, "from the truth": truth[:, -1]}

    return attack


def example(batch: Any, row: Any) -> Any:
    """One client's batch of a single example."""
    return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, row, 1), batch)


def interval(values: np.ndarray, draws: int = 10_000) -> dict[str, float]:
    """The mean with its 95 % bootstrap interval over what is drawn."""
    values = np.asarray(values, np.float64)
    rows = np.random.default_rng(0).integers(0, len(values), (draws, len(values)))
    low, high = np.quantile(values[rows].mean(1), (0.025, 0.975))
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}
