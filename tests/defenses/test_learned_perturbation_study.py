"""What the study of learned perturbation compares, and what it refuses to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench.perturbation_clients import load, protected, trained
from bench.perturbation_judge import (
    better,
    check_matched,
    compared,
    comparisons,
    judged,
)
from bench.perturbation_matching import between, strongest
from jaxinv.errors import InputError
from jaxinv.models import build
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec

pytestmark = pytest.mark.usefixtures("compiled_quickly")

KEY = jax.random.key(0)


def row(defence, accuracy, each, attacker=0.5):
    return {
        "defence": defence,
        "accuracy": accuracy,
        "each_mse": each,
        "mse": float(np.mean(each)),
        "attacker_accuracy": attacker,
    }


def test_defences_are_compared_at_matched_utility_only():
    own = row("learned", 0.90, [0.02, 0.04], 0.60)
    fair = compared(own, row("noise", 0.909, [0.02, 0.02], 0.75))
    assert fair["mse_gain"] == pytest.approx(0.5)
    assert fair["mse_gain_interval"] == pytest.approx([0.0, 1.0])
    assert fair["points_lower"] == pytest.approx(15)
    assert fair["share_lower"] == pytest.approx(0.2)
    assert fair["both_claims"]
    same = compared(own, row("noise", 0.909, [0.02, 0.04], 0.75))
    assert same["mse_gain"] == 0 and not same["both_claims"]
    for accuracy in (0.91, 0.88, 0.5, float("nan")):
        with pytest.raises(InputError, match="expected them to differ by less than a"):
            compared(own, row("noise", accuracy, [0.02, 0.02]))
        with pytest.raises(InputError, match=r"accuracy of learned is 0\.900 and"):
            check_matched(own, row("noise", accuracy, [0.02, 0.02]))


def test_the_better_baseline_is_the_one_that_hides_more():
    rows = [row("a", 0.9, [0.01, 0.02]), row("b", 0.9, [0.03, 0.01])]
    assert better(rows)["defence"] == "b"
    rows = [
        {"attack": "x", **one}
        for one in (
            row("learned", 0.9, [0.04, 0.04]),
            row("autoencoder", 0.905, [0.01, 0.01]),
            row("noise", 0.895, [0.02, 0.02]),
            row("pruning", 0.8, [0.2, 0.2]),
            row("none", 0.9, [0.3, 0.3]),
        )
    ]
    found, refused = comparisons(rows)
    gains = {line["baseline"]: (line["mse_gain"], line["better"]) for line in found}
    assert gains == {
        "autoencoder": (pytest.approx(3), False),
        "noise": (pytest.approx(1), True),
    }
    assert len(refused) == 1 and "of pruning 0.800" in refused[0]


def test_reconstructions_are_judged_against_originals_and_against_what_was_sent():
    truth = jax.random.uniform(KEY, (6, 12, 12, 1))
    moved = jnp.clip(truth + 0.2, 0, 1)
    labels = jnp.array([0, 1, 0, 1, 0, 1])
    found = moved.at[0].set(jnp.nan)

    def judge(pixels):  # says 1 of what is brighter than most
        mean = pixels.mean((1, 2, 3))
        return jnp.stack([0 * mean, mean - 0.55], 1)

    told = judged(truth, moved, found, labels, judge)
    assert told["images"] == 6 and len(told["each_mse"]) == 6
    wanted = np.mean((np.asarray(found[1:]) - np.asarray(truth[1:])) ** 2, (1, 2, 3))
    np.testing.assert_allclose(told["each_mse"][1:], wanted, rtol=1e-3)
    assert told["mse_perturbed"] < told["mse"]
    low, high = told["mse_interval"]
    assert low <= told["mse"] <= high
    said = judge(found.at[0].set(0.5)).argmax(1) == labels
    assert told["attacker_accuracy"] == pytest.approx(float(said.mean()))


def test_the_strongest_matched_baseline_is_taken_and_the_next_one_tried_between():
    own = row("learned", 0.90, [1.0])
    noise = [
        {"defence": "noise", "strength": s, "accuracy": a}
        for s, a in ((0.1, 0.93), (0.2, 0.905), (0.4, 0.895), (1.6, 0.7))
    ]
    assert strongest(own, noise)["strength"] == 0.4
    assert strongest(own, noise[::3])["strength"] == 0.1
    assert between(own, noise) == [pytest.approx(0.8)]
    assert between(own, noise[:2]) == [pytest.approx(2.0)]
    assert between(own, noise[3:]) == [pytest.approx(0.16)]


def test_clients_one_by_one_train_as_all_together():
    spec = Spec((4, 4, 1), 2)
    target = build("mlp", spec, widths=(6,))
    data = Batch(jax.random.normal(KEY, (20, 4, 4, 1)), jnp.arange(20) % 2)
    ends = [
        jax.jit(
            lambda together=together: trained(
                KEY,
                target,
                protected(target),
                data,
                steps=5,
                clients=4,
                together=together,
            )
        )()
        for together in (True, False)
    ]
    for a, b in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert isinstance(protected(target), type(gradient(target.loss)))


def test_the_parts_of_a_data_set_are_disjoint(data_folder):
    split = load(data_folder, "pneumonia")
    sizes = [len(part.labels) for part in split[2:]]
    assert sum(sizes) == 1514 and split.spec.shape == (28, 28, 1)
    seen = [
        {np.asarray(image).tobytes() for image in part.inputs} for part in split[2:]
    ]
    assert not (seen[0] & seen[1]) and not (seen[1] & seen[2]) and not seen[0] & seen[2]
    for part in split[2:]:
        assert 0.4 < float(part.labels.mean()) < 0.6


@pytest.fixture
def data_folder():
    import os
    from pathlib import Path

    folder = Path(os.environ.get("JAXINV_DATA", ""))
    if not (folder / "pneumoniamnist_subset.npz").exists():
        pytest.skip("JAXINV_DATA names no folder with pneumoniamnist_subset.npz")
    return folder
