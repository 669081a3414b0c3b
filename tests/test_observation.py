"""Observations: what is refused, how it is said, and what stays static under jit."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.errors import InputError, KnowledgeError
from jaxinv.observation import observe, require
from jaxinv.target import Moments, Spec, Variables

SPEC = Spec((2, 2, 1), 3)
PARAMS = {"dense": {"kernel": jnp.ones((4, 3)), "bias": jnp.zeros(3)}}


def update(**leaves):
    return {"dense": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)} | leaves}


def seen(**options):
    given = {"params": PARAMS, "update": update(), "num_examples": 2, "spec": SPEC}
    return observe(**(given | options))


def stats(mean=(0.0, 1.0), var=(1.0, 2.0)):
    return {"norm": Moments(np.array(mean), np.array(var))}


def shown(*visible):
    """A bool for each number, of the bias these alone."""
    bias = np.isin(np.arange(3), visible)
    return {"dense": {"kernel": np.ones((4, 3), bool), "bias": bias}}


NAN, INF = float("nan"), float("inf")
BIAS = r"update\['dense'\]\['bias'\]"
BAD = {
    "lacks a leaf": ({"update": {"dense": {"bias": jnp.ones(3)}}}, "update .*lacks"),
    "surplus leaf": ({"update": update(scale=jnp.ones(3))}, "update .*has .*scale"),
    "other tree": ({"update": jnp.ones(3)}, "update .*lacks .* and has"),
    "shape": ({"update": update(bias=jnp.ones(4))}, rf"{BIAS} has shape \(4,\)"),
    "scalar": ({"update": update(bias=1.0)}, rf"{BIAS} has shape \(\)"),
    "text": ({"update": update(bias="no")}, f"{BIAS} is <U2"),
    "integers": ({"update": update(bias=jnp.ones(3, int))}, f"{BIAS} is int32"),
    "complex": ({"update": update(bias=jnp.ones(3, complex))}, f"{BIAS} is complex64"),
    "NaN": ({"update": update(bias=jnp.array([0, NAN, 1]))}, f"{BIAS} holds 1 values"),
    "infinity": ({"update": update(bias=-INF * jnp.ones(3))}, f"{BIAS} holds 3 values"),
    "float64 past float32": (
        {"update": update(bias=np.array([1e300, 0, 0]))},
        f"{BIAS} holds 1 values",
    ),
    "params of NaN": (
        {"params": jax.tree.map(lambda p: p * NAN, PARAMS)},
        r"params\['dense'\]\['bias'\] holds 3 values",
    ),
    "params of integers": (
        {"params": jax.tree.map(lambda p: p.astype(int), PARAMS)},
        r"params\['dense'\]\['bias'\] is int32",
    ),
    "no params": ({"params": {}, "update": {}}, "params holds no arrays"),
    "label too high": ({"labels": [0, 3]}, "labels holds 3; expected 0 to 2"),
    "label below 0": ({"labels": [0, -1]}, "labels holds -1; expected 0 to 2"),
    "labels too many": ({"labels": [0, 1, 2]}, r"labels has shape \(3,\)"),
    "labels one-hot": ({"labels": np.eye(2, 3, dtype=int)}, "labels has shape"),
    "labels scalar": ({"labels": 1}, r"labels has shape \(\)"),
    "labels of floats": ({"labels": [0.0, 1.0]}, "labels is float64"),
    "labels of bools": ({"labels": [True, False]}, "labels is bool"),
    "labels of text": ({"labels": ["a", "b"]}, "labels is <U1"),
    "labels ragged": ({"labels": [[0], [1, 2]]}, "labels is ragged"),
    "visible lacks a leaf": (
        {"visible": {"dense": {"bias": np.ones(3, bool)}}},
        r"visible does not have the structure of the update: .*'kernel'",
    ),
    "visible of floats": (
        {"visible": update()},
        r"visible\['dense'\]\['bias'\] is float32; expected bool",
    ),
    "visible of another shape": (
        {
            "visible": {
                "dense": {"kernel": np.ones((4, 3), bool), "bias": np.ones(1, bool)}
            }
        },
        r"visible\['dense'\]\['bias'\] has shape \(1,\); expected \(3,\)",
    ),
    "NaN where visible": (
        {"update": update(bias=jnp.array([0, NAN, 1])), "visible": shown(1)},
        f"{BIAS} holds 1 values",
    ),
    "none": ({"num_examples": 0}, "num_examples is 0"),
    "bool": ({"num_examples": True}, "num_examples is True"),
    "number as text": ({"num_examples": "2"}, "num_examples is '2'"),
    "half an example": ({"num_examples": 2.5}, "num_examples is 2.5"),
    "stats no dict": ({"batch_stats": [1.0]}, "batch_stats is list"),
    "stats no moments": (
        {"batch_stats": {"norm": 1.0}},
        ".*'norm'. is float",
    ),
    "stats shapes": ({"batch_stats": stats(mean=(0.0,))}, "batch_stats.'norm'. has"),
    "stats NaN": ({"batch_stats": stats(mean=(0.0, NAN))}, "batch_stats.'norm'..mean"),
    "stats negative": ({"batch_stats": stats(var=(0.0, -1.0))}, "batch_stats.*var"),
    "stats integers": ({"batch_stats": stats(mean=(0, 1))}, "batch_stats.*is int64"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line_that_names_it(case):
    options, message = BAD[case]
    with pytest.raises(InputError, match=f"^{message}[^\n]*$") as caught:
        seen(**options)
    assert len(str(caught.value)) < 200


def test_holds_one_round_of_what_was_given():
    found = seen(labels=np.array([2, 0], np.uint8), batch_stats=stats())
    assert found.rounds == 1 and found.num_examples == 2 and found.spec == SPEC
    for leaf, whole in zip(
        jax.tree.leaves(update()), jax.tree.leaves(found.update), strict=True
    ):
        np.testing.assert_array_equal(whole, np.asarray(leaf)[None])
    jax.tree.map(np.testing.assert_array_equal, found.round(0), (PARAMS, update()))
    assert found.known.labels.dtype == jnp.int32
    np.testing.assert_array_equal(found.known.labels, [2, 0])
    np.testing.assert_array_equal(found.known.batch_stats["norm"].var, [1.0, 2.0])
    assert found.known.granted() == ("labels", "batch_stats")


def test_what_is_not_visible_may_be_anything_and_is_not_kept():
    held = jnp.array([NAN, 5.0, INF])
    sent = OrderedDict(kernel=2 * jnp.ones((4, 3)), bias=held)  # kernel first
    mask = {"dense": OrderedDict(reversed(shown(1)["dense"].items()))}
    found = seen(update={"dense": sent}, visible=mask)
    np.testing.assert_array_equal(found.update["dense"]["bias"], [[0, 5, 0]])
    np.testing.assert_array_equal(
        found.update["dense"]["kernel"], np.full((1, 4, 3), 2)
    )
    assert found.known.granted() == ("visible",)
    np.testing.assert_array_equal(found.shown(0)["dense"]["bias"], [0, 1, 0])
    assert seen().shown(0) is None
    # New weights: what is hidden moved by nothing, not to zero.
    params = {"dense": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}}
    moved = seen(params=params, update={"dense": sent}, visible=mask, sent="weights")
    np.testing.assert_array_equal(moved.update["dense"]["bias"], [[0, 4, 0]])
    assert moved.sent == "delta"


def test_one_mask_serves_all_rounds_and_each_may_have_its_own():
    one = seen(visible=shown(1))
    rounds = one.replace(
        update=jax.tree.map(
            lambda u: jnp.tile(u, (2,) + (1,) * (u.ndim - 1)), one.update
        )
    )
    for index in range(2):
        np.testing.assert_array_equal(rounds.shown(index)["dense"]["bias"], [0, 1, 0])
    both = jax.tree.map(
        lambda a, b: jnp.concatenate([a, b]),
        one.known.visible,
        seen(visible=shown(0, 2)).known.visible,
    )
    own = rounds.replace(known=rounds.known.replace(visible=both))
    np.testing.assert_array_equal(own.shown(1)["dense"]["bias"], [1, 0, 1])


def test_variables_are_sent_and_only_params_come_back():
    state = {"batch_stats": {"norm": {"mean": jnp.zeros(2), "count": jnp.int32(7)}}}
    found = seen(params=Variables(PARAMS, state))
    params, sent_back = found.round(0)
    jax.tree.map(np.testing.assert_array_equal, params, Variables(PARAMS, state))
    jax.tree.map(np.testing.assert_array_equal, sent_back, update())
    with pytest.raises(InputError, match="update does not have the structure"):
        seen(params=Variables(PARAMS, state), update=Variables(update(), state))


def test_leaves_are_matched_by_name_not_by_place():
    # An OrderedDict keeps the order it was written in; a dict is sorted by jax.
    inner = OrderedDict(kernel=2 * jnp.ones((4, 3)), bias=5 * jnp.ones(3))
    found = seen(update={"dense": inner})
    for sent, returned in zip(
        jax.tree.leaves(found.params), jax.tree.leaves(found.update), strict=True
    ):
        assert sent.shape == returned.shape
    np.testing.assert_array_equal(found.update["dense"]["bias"], np.full((1, 3), 5.0))


def test_rounds_are_the_leading_axis():
    one = seen()
    several = one.replace(
        params=jax.tree.map(lambda p: jnp.concatenate([p, p + 1, p + 2]), one.params),
        update=jax.tree.map(lambda u: jnp.concatenate([u, u * 2, u * 3]), one.update),
    )
    assert several.rounds == 3
    params, returned = several.round(2)
    np.testing.assert_array_equal(params["dense"]["bias"], np.full(3, 2.0))
    np.testing.assert_array_equal(returned["dense"]["kernel"], np.full((4, 3), 3.0))


@pytest.mark.parametrize("count", [2, np.int64(2)])
def test_static_fields_do_not_retrace(count):
    traced = []

    @jax.jit
    def work(observation):
        traced.append(observation.num_examples)
        return observation.update["dense"]["bias"] * observation.spec.num_classes

    twin = Spec((2, 2, 1), 3)
    assert twin is not SPEC
    work(seen())
    found = work(
        seen(update=update(bias=jnp.arange(3.0)), num_examples=count, spec=twin)
    )
    assert len(traced) == 1
    np.testing.assert_array_equal(found[0], 3 * np.arange(3.0))
    work(seen(labels=[0, 1]))  # what is granted is structure
    work(seen(num_examples=3))
    assert traced == [2, 2, 3]


def test_require_says_what_is_missing_and_what_there_is():
    np.testing.assert_array_equal(
        require(seen(labels=[1, 2]), "labels", why="x"), [1, 2]
    )
    message = (
        r"^batch_stats is needed and not granted \(granted: labels\); leave it out$"
    )
    with pytest.raises(KnowledgeError, match=message):
        require(seen(labels=[1, 2]), "batch_stats", why="leave it out")
    with pytest.raises(KnowledgeError, match="granted: nothing"):
        require(seen(), "labels", why="x")
