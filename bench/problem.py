"""What `bench.restarts` measures: a case, its numbers, the attack on them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from bench.own_model import own
from jaxinv import attacks, models, space
from jaxinv.observation import Observation, observe
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec, Target

PRECISIONS = ("default", "tensorfloat32", "bfloat16", "float32", "float64")
"""JAX's names for how float32 is multiplied; "default" is each engine's own choice, and
"float64" is the dtype of everything."""
OPTIONS: Any = {"learning_rate": 0.1, "tv": 0.01}
"""Of the attack, beside its labels and steps."""


@dataclass(frozen=True)
class Case:
    """What one row measures, whatever the contender."""

    target: str
    device: str
    restarts: int
    batch: int
    width: int | None
    image_size: int
    precision: str
    iterations: int

    def options(self) -> dict[str, Any]:
        """Of the model."""
        if self.target == "mlp":
            return {"widths": (self.width, self.width)}
        return {} if self.width is None else {"width": self.width}

    def build(self) -> Target:
        """The model of this width on images of this size, as CIFAR-10 normalises them.

        Raises:
          InputError: the model refuses them.
        """
        mean, std = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
        spec = Spec((self.image_size, self.image_size, 3), 10, mean, std)
        if self.target == "own":
            # Drawn as the zoo draws them: the numbers are then those of its ConvNet.
            weights = models.build("convnet", spec, **self.options())
            return own(spec, **self.options())._replace(init=weights.init)
        return models.build(self.target, spec, **self.options())

    def zoo(self) -> Case:
        """The same case by the name of `jaxinv.models`, which the twins bear too."""
        return replace(self, target="convnet") if self.target == "own" else self


class Problem(NamedTuple):
    """A case with its numbers: what every contender is given."""

    case: Case
    """By its name in the zoo, see `Case.zoo`."""
    target: Target
    params: Any
    truth: Batch
    observation: Observation
    key: jax.Array
    """Of the attack's starts."""
    draw: Callable[[jax.Array, Observation], Any]
    """The `init` of the attack's space, compiled."""


def make_problem(case: Case, seed: int) -> Problem:
    """Fresh weights, a batch of noise, its gradient as observed."""
    target = case.build()
    key_params, key, key_inputs, key_labels = jax.random.split(jax.random.key(seed), 4)
    # Rates do not depend on what the pictures show, so noise will do.
    pixels = jax.random.uniform(key_inputs, (case.batch, *target.spec.shape))
    labels = jax.random.randint(key_labels, (case.batch,), 0, target.spec.num_classes)
    params = jax.tree.map(
        lambda leaf: leaf.astype(pixels.dtype), jax.jit(target.init)(key_params)
    )
    truth = Batch(target.spec.normalise(pixels), labels)
    update = jax.jit(gradient(target.loss))(key, params, truth)
    observation = observe(
        params,
        update,
        num_examples=case.batch,
        spec=target.spec,
        labels=np.asarray(labels),
    )
    draw = jax.jit(space.pixels(target.spec).init)
    return Problem(case.zoo(), target, params, truth, observation, key, draw)


def attack_of(problem: Problem) -> attacks.Attack:
    """Inverting Gradients from one start."""
    return attacks.build(
        "inverting_gradients",
        problem.target,
        num_steps=problem.case.iterations,
        labels="known",
        **OPTIONS,
    )


def starts_of(problem: Problem, num: int) -> tuple[jax.Array, np.ndarray]:
    """Keys `[num]`, and the starts `[num, N, H, W, C]` that the attack draws."""
    keys = jax.random.split(problem.key, num)
    # Attacks split their key once and draw the start with the first half.
    halves = [jax.random.split(key)[0] for key in keys]
    points = [problem.draw(half, problem.observation)[0] for half in halves]
    return keys, np.stack([np.asarray(point.inputs) for point in points])


def first_match(problem: Problem, key: jax.Array) -> float:
    """The match at the start that `key` draws, as the first step sees it."""
    attack = attack_of(problem)

    def run(key, observation):
        _, info = attack.step(observation, attack.init(key, observation))
        return info["score"]

    return float(jax.jit(run)(key, problem.observation))


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """JAX's precision of products; "float64" makes that the dtype of everything."""
    if name == "float64":
        with jax.enable_x64(True):
            yield
    elif name == "default":
        yield
    else:
        with jax.default_matmul_precision(name):
            yield
