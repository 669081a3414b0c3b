"""What the stages of the study of learned perturbation share."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import jax

from bench.machine import machine
from bench.perturbation_clients import Split, protected
from jaxinv.defenses.learned_perturbation import Perturber, learned_perturbation
from jaxinv.defenses.noise import gaussian_noise
from jaxinv.defenses.pruning import pruning
from jaxinv.models import build
from jaxinv.release import Release, gradient
from jaxinv.target import Target

Judge = Callable[[jax.Array], jax.Array]
"""Pixels `[N, H, W, C]` to logits `[N, 2]`."""

Defended = tuple[Callable[[Any], Release], Any]
"""A release, and the arrays that it is made of: programs are shared by its kind."""


class Study:
    """One data set; what is found so far is written after every stage."""

    inside: Judge
    """The attacker's classifier that the game knows."""
    judge: Judge
    """Another one of the same kind, which judges."""

    def __init__(self, args: argparse.Namespace, split: Split) -> None:
        self.args, self.split = args, split
        self.target: Target = build("lenet", split.spec)
        self.plain: Release = gradient(self.target.loss)
        self.told: dict[str, Any] = {
            "data": split.name,
            "parts": [len(part.labels) for part in split[2:]],
            "machine": machine(),
            "seconds": {},
            "defences": {},
            "tried": [],
            "attacks": [],
        }
        self.before: dict[str, Any] = {}
        if args.json.exists():
            self.before = json.loads(args.json.read_text(encoding="utf-8"))
        self.clock = time.perf_counter()

    def done(self, stage: str) -> None:
        """Notes how long a stage took, compiling included, and writes the file."""
        now = time.perf_counter()
        self.told["seconds"][stage] = round(now - self.clock, 1)
        self.clock = now
        print(f"{self.split.name}: {stage} {self.told['seconds'][stage]} s", flush=True)
        text = json.dumps(self.told, indent=1, default=float)
        self.args.json.write_text(text + "\n", encoding="utf-8")

    def through(self, perturber: Perturber) -> Release:
        """The gradient of perturbed images."""
        return learned_perturbation(self.plain, perturber)

    def noisy(self, std: jax.Array) -> Release:
        """The gradient with noise, the plain one where that is 0."""
        return protected(self.target, gaussian_noise(std))

    def pruned(self, rate: float, nothing: None = None) -> Release:
        """The gradient without its smallest numbers."""
        del nothing
        return protected(self.target, pruning(rate))
