"""Whether an update can be true: right ones pass, wrong ones meet their check."""

import jax
import numpy as np
import pytest

from jaxinv import models
from jaxinv.exchange import ClientFile, plausible, tree
from jaxinv.fedavg import fedavg
from jaxinv.local_training import LocalTraining
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec

SPEC = Spec((8, 8, 3), 10)
TARGET = models.build("mlp", SPEC, widths=(16,))
PARAMS = TARGET.init(jax.random.key(0))
BATCH = Batch(jax.random.normal(jax.random.key(1), (2, 8, 8, 3)), np.array([3, 7]))
KEY = jax.random.key(2)


def leaves(update):
    return {n: np.asarray(v, np.float32) for n, v in tree.named(update).items()}


SENT = leaves(PARAMS)
GRADIENT = leaves(gradient(TARGET.loss)(KEY, PARAMS, BATCH))


def client(sent="gradient", **changes):
    local = None
    if sent != "gradient":
        rate, steps = changes.pop("rate", 0.1), changes.pop("steps", 2)
        local = LocalTraining(
            rate, local_steps=steps, optimizer=changes.pop("optimizer", "sgd")
        )
    return ClientFile(spec=SPEC, sent=sent, examples=2, local=local, **changes)


def trained(**options):
    return leaves(
        fedavg(TARGET.loss, 0.1, local_steps=2, **options)(KEY, PARAMS, BATCH)
    )


def verdicts(said, update, **options):
    found = plausible(said, SENT, update, head=TARGET.spec.head, **options)
    return {f.check: f.verdict for f in found}, found


@pytest.mark.parametrize("labels", [None, (3, 7)])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_what_a_client_sent_is_possible(optimizer, labels):
    delta = trained(optimizer=optimizer)
    said = client("delta", optimizer=optimizer, labels=labels)
    weights = {n: SENT[n] + v for n, v in delta.items()}
    for one, update in (
        (said, delta),
        (client("weights", optimizer=optimizer, labels=labels), weights),
        (client(labels=labels), GRADIENT),
    ):
        found, lines = verdicts(one, update)
        assert "impossible" not in found.values(), lines
        assert found["sign"] == "ok"


DELTA = trained()
WRONG = {
    "nothing was trained": (client("weights"), SENT, "changed"),
    "zeros": (client(), {n: 0 * v for n, v in SENT.items()}, "changed"),
    "a gradient called weights": (client("weights"), GRADIENT, "kind"),
    "weights called a gradient": (client(), SENT, "kind"),
    "a delta called a gradient": (client(), DELTA, "sign"),
    "a gradient called a delta": (client("delta"), GRADIENT, "sign"),
    "other labels": (client(labels=(0, 1)), GRADIENT, "sign"),
    "a sum called a mean": (client(), {n: 2 * v for n, v in GRADIENT.items()}, "scale"),
    "a smaller learning rate": (client("delta", rate=0.01), DELTA, "scale"),
    "fewer steps": (client("delta", steps=1), DELTA, "scale"),
    "more than Adam can": (
        client("delta", optimizer="adam", rate=1e-3),
        DELTA,
        "scale",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_no_such_client_sends_is_impossible(what):
    said, update, check = WRONG[what]
    found, lines = verdicts(said, update)
    assert found[check] == "impossible", lines
    assert all("\n" not in one.line for one in lines)


def test_a_number_that_is_not_finite_is_found():
    for bad in (np.nan, np.inf):
        update = {n: v.copy() for n, v in GRADIENT.items()}
        next(iter(update.values())).flat[0] = bad
        found, lines = verdicts(client(), update)
        assert found == {"finite": "impossible"}
        assert "holds 1 NaN" in lines[0].line


def test_float64_that_float32_cannot_hold_is_found():
    update = {n: v.astype(np.float64) for n, v in GRADIENT.items()}
    next(iter(update.values())).flat[0] = 1e300
    assert verdicts(client(), update)[0] == {"finite": "impossible"}


def test_more_examples_than_said_show_in_the_rank():
    wide = Spec((8, 8, 3), 10)
    batch = Batch(jax.random.normal(KEY, (6, 8, 8, 3)), np.array([3, 7, 3, 7, 3, 7]))
    update = leaves(gradient(TARGET.loss)(KEY, PARAMS, batch))
    found, lines = verdicts(client(), update)
    assert found["rank"] == "doubtful", lines
    assert wide == SPEC and verdicts(client(), GRADIENT)[0]["rank"] == "ok"


def test_lost_digits_are_doubtful():
    half = {n: v.astype(np.float16).astype(np.float32) for n, v in GRADIENT.items()}
    found, lines = verdicts(client(), half)
    assert found["digits"] == "doubtful" and "float16" in lines[-1].line


def test_behind_a_defence_signs_and_sizes_are_only_doubtful():
    said = client(defenses=("gaussian_noise:std=0.1",))
    found, _ = verdicts(said, DELTA)
    assert found["sign"] == "doubtful"
    assert verdicts(said, SENT)[0]["kind"] == "impossible"


def test_another_loss_is_not_judged_by_the_output_bias():
    found, _ = verdicts(client(), DELTA, cross_entropy=False)
    assert "sign" not in found and "scale" not in found
