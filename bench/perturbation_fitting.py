"""What is trained on the auxiliary images: judges, autoencoder, perturber."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.perturbation_clients import accuracy, judge_target, trained
from bench.perturbation_setting import Judge, Study
from jaxinv.defenses.learned_perturbation import (
    Design,
    InverterDesign,
    Perturber,
    Rates,
    Weights,
    fresh,
    fresh_inverter,
    minimax,
    pretrain,
)
from jaxinv.release import gradient
from jaxinv.target import Batch


def judges(study: Study) -> None:
    """Two classifiers of clean images: the game's, and the one that judges."""
    target, split = judge_target(study.split.spec), study.split
    fit = jax.jit(
        lambda key: trained(
            key,
            target,
            gradient(target.loss),
            split.auxiliary,
            steps=400,
            clients=32,
        )
    )
    probe = target.probe
    assert probe is not None
    inside, outside = (fit(jax.random.key(seed)) for seed in (21, 22))
    found = float(jax.jit(accuracy, static_argnums=0)(target, outside, split.test))
    study.told["judge_accuracy"] = found

    def of(params: Any) -> Judge:
        def judge(pixels: jax.Array) -> jax.Array:
            labels = jnp.zeros(len(pixels), jnp.int32)
            batch = split.test._replace(
                inputs=split.spec.normalise(pixels), labels=labels
            )
            return probe(params, batch).logits

        return judge

    study.inside, study.judge = of(inside), jax.jit(of(outside))
    study.done("judges")


def fitted(study: Study) -> Perturber:
    """The autoencoder, then the game, both on the auxiliary images."""
    args, spec, data = study.args, study.split.spec, study.split.auxiliary
    design = Design(spec.shape, spec.mean, spec.std, width=12, form=args.form, noise=4)
    key = jax.random.key(31)
    start, errors = jax.jit(
        lambda one: pretrain(key, one, data.inputs, num_steps=800, learning_rate=4e-3)
    )(fresh(key, design, eps=args.eps))
    study.told["autoencoder_mse"] = float(errors[-50:].mean())
    study.done("autoencoder")
    params = study.target.init(key)
    own = InverterDesign(spec)

    # Data are arguments: what is closed over, XLA would compute while it compiles.
    def play(start: Perturber, params: Any, data: Batch):
        probes = jax.vmap(lambda x, y: study.plain(key, params, Batch(x, y)))(
            *jax.tree.map(lambda leaf: leaf[:64, None], data)
        )
        pixels = spec.denormalise(data.inputs)
        inverter = fresh_inverter(
            key, own, params, probes, pixels, num_coordinates=2048
        )
        game, trace = minimax(
            key,
            start,
            inverter,
            study.target,
            params,
            data,
            num_steps=args.game,
            judge=study.inside,
            weights=Weights(rec=args.rec, adv=args.adv),
            rates=Rates(theta=3e-3),
            reset_every=200,
        )
        return game.perturber, trace, jnp.mean((pixels - pixels.mean(0)) ** 2)

    perturber, trace, cap = jax.jit(play)(start, params, data)
    study.told["mean_image_mse"] = float(cap)
    study.told["game"] = {
        name: [float(x) for x in np.asarray(values).reshape(10, -1).mean(1)]
        for name, values in trace._asdict().items()
    }
    study.done("game")
    return perturber
