"""The table of what each attack takes is compared with what the attacks do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pages
import pytest

from jaxinv import attacks, models
from jaxinv.attacks.base import iterate
from jaxinv.errors import InputError
from jaxinv.fedavg import fedavg
from jaxinv.local_training import LocalTraining
from jaxinv.observation import observe
from jaxinv.release import trained
from jaxinv.target import Spec

PAGE = pages.DOCS / "threat-models.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="no docs beside the tests")

SPEC = Spec((9, 9, 3), 4)
# What an attack refuses does not hang on how deep the model is; tracing does.
MODEL = {"linear_layer": "mlp"}
OPTIONS = {"see_through_gradients": {"batch_norm": 0.0}}
SEVERAL = {"num_examples": 2, "labels": [0, 1]}
STEPS = {"learning_rate": 0.1, "local_steps": 2}
KINDS = {
    "labels withheld": {},
    "batch of several": SEVERAL,
    "several local steps": {
        "labels": [0],
        "sent": "delta",
        "local_training": LocalTraining(**STEPS),
    },
    "encrypted in part": {"labels": [0], "visible": True},
}
"""What is observed, by the heading of its column."""


@functools.cache
def model(name):
    """A target with parameters and an update of the right shapes."""
    target = models.build(name, SPEC)
    shapes = jax.eval_shape(target.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    update = jax.tree.map(lambda leaf: np.full_like(leaf, 0.01), trained(params))
    return target, params, update


def takes(name, kind):
    """Whether an attack accepts an observation; nothing is compiled or run."""
    target, params, update = model(MODEL.get(name, "lenet"))
    asked = {"num_examples": 1, **KINDS[kind]}
    if "visible" in asked:
        asked["visible"] = jax.tree.map(lambda leaf: leaf > 0, update)
    seen = observe(params, update, spec=SPEC, **asked)
    options = dict(OPTIONS.get(name, {}))
    if attacks.has_loop(name):
        options["num_steps"] = 2
        if "sent" in asked:
            options["release"] = fedavg(target.loss, **STEPS)
    attack = iterate(attacks.build(name, target, **options), 1)
    try:
        jax.eval_shape(attack, jax.random.key(0), seen)
    except InputError:
        return False
    return True


def test_the_table_is_what_the_attacks_do():
    rows = pages.table(PAGE, "attack")
    assert [row[0] for row in rows] == sorted(attacks.ATTACKS)
    said = {
        (row[0], kind): cell
        for row in rows
        for kind, cell in zip(KINDS, row[1:-1], strict=True)
    }
    does = {(n, k): "yes" if takes(n, k) else "no" for n, k in said}
    assert said == does


def test_headings_are_those_that_are_tested():
    line = next(
        x for x in PAGE.read_text("utf-8").splitlines() if x.startswith("| attack |")
    )
    assert [cell.strip() for cell in line.strip("|").split("|")][1:-1] == list(KINDS)


def test_a_matching_attack_that_is_not_told_the_training_is_refused():
    target, params, update = model("lenet")
    seen = observe(params, update, num_examples=1, spec=SPEC, labels=[0], sent="delta")
    attack = iterate(attacks.inverting_gradients(target, num_steps=2), 1)
    with pytest.raises(InputError, match="release is a gradient"):
        jax.eval_shape(attack, jax.random.key(0), seen)


def test_labels_withheld_are_not_in_what_is_observed():
    _, params, update = model("mlp")
    seen = observe(params, update, spec=SPEC, num_examples=1)
    assert seen.known.labels is None and jnp.shape(seen.known.granted()) == (0,)
