"""Every attack on every defence, the images of all seeds in one compiled call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from bench.perturbation_attacks import (
    Secrets,
    by_adam,
    by_lbfgs,
    knowing,
    learned,
    reconstructed,
    released,
    secrets,
)
from bench.perturbation_judge import judged
from bench.perturbation_picture import picture
from bench.perturbation_setting import Defended, Study
from jaxinv.defenses.learned_perturbation import Perturber, perturbed

TV = 1e-3
"""Weight of the total variation in the attacks, one for every defence."""


def attacked(study: Study, releases: dict[str, Defended]) -> None:
    """Every attack on every defence, the images of all seeds in one call."""
    args, spec, target = study.args, study.split.spec, study.target
    secret = secrets(target, study.split.clients, args.seeds, args.each)
    truth = spec.denormalise(secret.batch.inputs[:, 0])
    labels = secret.batch.labels[:, 0]
    send = compiled(lambda make, arrays, s: released(make(arrays), s))
    sent = {name: send(*own, secret) for name, own in releases.items()}
    pictures = {"originals": truth}
    moved = dict.fromkeys(releases, truth)
    for name in ("autoencoder", "learned"):
        moved[name] = _moved(releases[name][1], secret)
        pictures[f"perturbed, {name}"] = moved[name]
    study.done("updates")
    attacks = {
        "inverting_gradients": by_adam(target, args.attack_steps, TV),
        "cosine_lbfgs": by_lbfgs(target, args.attack_steps, TV),
    }
    for attack_name, attack in attacks.items():
        # Updates are arguments: one program for all defences.
        run = jax.jit(lambda sent, a=attack: reconstructed(a, spec, secret, sent))
        for name in releases:
            found = run(sent[name])
            note(study, attack_name, name, truth, moved[name], found, labels)
            pictures[f"{attack_name}, {name}"] = found
        study.done(attack_name)
    model = jax.tree.map(lambda leaf: leaf[0], secret.params)
    held = jax.tree.map(lambda x: x[:200], study.split.clients)
    pixels = spec.denormalise(held.inputs)
    answer = compiled(
        lambda make, arrays, model, own, held: learned(
            make(arrays),
            spec,
            model,
            own,
            held,
            steps=args.inverter_steps,
            coordinates=2048,
        )
    )
    for name, defended in releases.items():
        found, _ = answer(*defended, model, study.split.auxiliary, held)
        own = pixels
        if defended[0] == study.through:  # other draws than those sent, as large
            inputs = perturbed(defended[1], jax.random.key(0), held.inputs).inputs
            own = spec.denormalise(inputs)
        note(study, "best_response", name, pixels, own, found, held.labels)
        pictures[f"best_response, {name}"] = found[: len(truth)]
        study.done(f"best response, {name}")
    few = jax.tree.map(lambda leaf: leaf[: args.each], (secret, sent["learned"]))
    perturber = releases["learned"][1]
    through = knowing(target, perturber, args.attack_steps, TV, draws=4)
    found = jax.jit(lambda: reconstructed(through, spec, *few))()
    cut = slice(args.each)
    note(
        study,
        "knowing_the_perturber",
        "learned",
        truth[cut],
        moved["learned"][cut],
        found,
        labels[cut],
    )
    pictures["knowing_the_perturber, learned"] = found
    study.done("knowing the perturber")
    if study.args.png:
        picture(pictures, study.args.png)


def note(
    study: Study,
    attack: str,
    defence: str,
    truth: jax.Array,
    moved: jax.Array,
    found: jax.Array,
    labels: jax.Array,
) -> None:
    """One row of the file; arguments as in `judged`."""
    row = judged(truth, moved, found, labels, study.judge)
    accuracy = study.told["defences"][defence]["accuracy"]
    row = {"attack": attack, "defence": defence, "accuracy": accuracy, **row}
    study.told["attacks"].append(row)
    names = ("mse", "mse_perturbed", "psnr", "ssim", "attacker_accuracy")
    print(attack, defence, {k: round(row[k], 4) for k in names}, flush=True)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(make, *arrays)`, compiled once for every `make`."""
    return jax.jit(function, static_argnums=0)


@jax.jit
def _moved(perturber: Perturber, secret: Secrets) -> jax.Array:
    """What the clients' gradients were of, pixels `[M, H, W, C]`."""

    def one(given: Secrets) -> jax.Array:
        drawn = jax.random.split(given.keys)[1]
        made = perturbed(perturber, drawn, given.batch.inputs).inputs[0]
        return perturber.design.spec.denormalise(made)

    return jax.lax.map(one, secret)
