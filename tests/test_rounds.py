"""Several rounds: checked as they are stacked, weighted, missing, own unknowns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv import matching
from jaxinv.errors import InputError
from jaxinv.objective import objective
from jaxinv.observation import observe
from jaxinv.rounds import PerRound, in_round, observe_rounds, round_weights
from jaxinv.target import Spec

SPEC = Spec((3,), 2)
KEY = jax.random.key(0)
GRANTED = {"num_examples": 1, "spec": SPEC}


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rounds(num, seed=0):
    params = [{"w": draw(seed + i, 3, 2)} for i in range(num)]
    updates = [{"w": draw(seed + 50 + i, 3, 2)} for i in range(num)]
    return params, updates


def test_one_round_is_what_observe_gives():
    params, updates = rounds(1)
    stacked = observe_rounds(params, updates, **GRANTED)
    single = observe(params[0], updates[0], **GRANTED)
    assert jax.tree.structure(stacked) == jax.tree.structure(single)
    for a, b in zip(jax.tree.leaves(stacked), jax.tree.leaves(single), strict=True):
        np.testing.assert_array_equal(a, b)


def test_rounds_are_stacked_in_order_and_missing_ones_weigh_nothing():
    params, updates = rounds(3)
    seen = observe_rounds(params, [updates[0], None, updates[2]], **GRANTED)
    np.testing.assert_array_equal(seen.params["w"], [p["w"] for p in params])
    np.testing.assert_array_equal(seen.update["w"][2], updates[2]["w"])
    assert not np.any(seen.update["w"][1])
    np.testing.assert_allclose(round_weights(seen), [0.5, 0, 0.5])
    weighted = observe_rounds(params, updates, weights=[1, 0, 3], **GRANTED)
    np.testing.assert_allclose(round_weights(weighted), [0.25, 0, 0.75])


def release(key, params, batch):
    """A client whose update is its data times its private factor."""
    return {"w": params["w"] * batch["data"] * batch["factor"]}


def total(seen, factors, **options):
    fn = objective(release, matching.squared(), **options)
    return fn(KEY, seen, {"data": jnp.asarray(2.0), "factor": PerRound(factors)})[0]


def by_hand(params, updates, factors):
    return [
        np.sum((p["w"] * 2.0 * f - u["w"]) ** 2)
        for p, u, f in zip(params, updates, factors, strict=True)
    ]


def test_the_objective_gives_each_round_its_own_unknowns():
    params, updates = rounds(3)
    factors = jnp.array([0.5, -1.0, 2.0])
    each = by_hand(params, updates, factors)
    seen = observe_rounds(params, updates, **GRANTED)
    np.testing.assert_allclose(total(seen, factors), np.mean(each), rtol=1e-5)
    weighted = observe_rounds(params, updates, weights=[1, 0, 3], **GRANTED)
    np.testing.assert_allclose(
        total(weighted, factors), (each[0] + 3 * each[2]) / 4, rtol=1e-5
    )
    slope = jax.grad(lambda f: total(weighted, f))(factors)
    assert slope[1] == 0 and slope[0] != 0 and slope[2] != 0
    alone = observe_rounds(params[:1], updates[:1], **GRANTED)
    np.testing.assert_allclose(total(alone, factors[:1]), each[0], rtol=1e-5)


def test_trimming_leaves_out_the_worst_rounds_that_are_there():
    params, updates = rounds(4)
    factors = jnp.ones(4)
    updates[2] = {"w": 100 * updates[2]["w"]}
    each = by_hand(params, updates, factors)
    seen = observe_rounds(params, updates, **GRANTED)
    rest = np.mean([each[i] for i in (0, 1, 3)])
    np.testing.assert_allclose(total(seen, factors, trim=0.25), rest, rtol=1e-5)
    np.testing.assert_allclose(total(seen, factors, trim=0.2), np.mean(each), rtol=1e-5)
    # The missing round is not the one that is trimmed.
    gone = observe_rounds(params, [updates[0], None, *updates[2:]], **GRANTED)
    np.testing.assert_allclose(
        total(gone, factors, trim=0.25), (each[0] + each[3]) / 2, rtol=1e-5
    )
    with pytest.raises(InputError, match=r"trim is 1\.0"):
        objective(release, matching.squared(), trim=1.0)


def test_a_candidate_in_one_round():
    candidate = {"a": jnp.arange(3.0), "b": PerRound((jnp.arange(4.0),))}
    one = in_round(candidate, 2)
    np.testing.assert_array_equal(one["a"], [0, 1, 2])
    assert one["b"][0] == 2


def test_bad_rounds_are_named():
    params, updates = rounds(2)
    zero = {"w": np.zeros((3, 2), np.float32)}
    wide = {"w": draw(0, 4, 2)}
    for changed, message in [
        ((params, updates[:1]), "updates has 1 rounds and params 2"),
        (([], []), "at least one"),
        ((params, [None, None]), "None alone"),
        ((params, [updates[0], zero]), r"updates\[1\] is zero everywhere"),
        (([params[0], wide], [updates[0], wide]), "round 1 differs"),
        (([params[0]] * 2, [updates[0]] * 2), "round 1 repeats"),
        ((params, [updates[0], wide]), r"round 1: update\['w'\] has shape"),
        (([params[0], wide], [updates[0], None]), "params differ"),
    ]:
        with pytest.raises(InputError, match=message):
            observe_rounds(*changed, **GRANTED)
    for weights, message in [
        ([1], r"weights has shape \(1,\)"),
        ([1, -1], "0 or more"),
        ([0, 0], "positive"),
        ([1, np.nan], "finite"),
    ]:
        with pytest.raises(InputError, match=message):
            observe_rounds(params, updates, weights=weights, **GRANTED)
    with pytest.raises(InputError, match="only in rounds without"):
        observe_rounds(params, [None, updates[1]], weights=[1, 0], **GRANTED)
