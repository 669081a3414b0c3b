"""The map from PyTorch's layout: against twins, scrambled names, there and back."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinv import models
from jaxinv.errors import InputError
from jaxinv.exchange import Layout, Pair, pair_up, tree
from jaxinv.target import Spec

CASES = [
    ("lenet", (32, 32, 3), {}),
    ("mlp", (12, 9, 3), {"widths": (16, 12)}),
    ("cnn6", (32, 32, 3), {}),
    ("convnet", (20, 20, 3), {"width": 4}),
    ("convnet", (20, 20, 3), {"width": 4, "norm": "group"}),
    ("resnet18", (16, 16, 3), {"width": 4}),
    ("resnet18", (16, 16, 3), {"width": 4, "activation": "pre", "norm": "none"}),
    ("vit", (8, 8, 3), {"dim": 16, "depth": 2, "heads": 2}),
]


def twins(name, shape, options):
    """Leaves of a model of the zoo, and the state dict of its twin in PyTorch."""
    pytest.importorskip("torch", reason="torch is not installed")
    from bench.torch_models import build_twin, load_flax

    spec = Spec(shape, 10)
    target = models.build(name, spec, **options)
    params = target.init(jax.random.key(0))
    module = load_flax(build_twin(name, spec, **options), params)
    leaves = {path: np.asarray(leaf) for path, leaf in tree.named(params).items()}
    state = {path: value.numpy() for path, value in module.state_dict().items()}
    return target, leaves, state


def shapes(tensors):
    return {name: values.shape for name, values in tensors.items()}


def scrambled(state):
    owners = list(dict.fromkeys(name.rpartition(".")[0] for name in state))
    numbers = {owner: index for index, owner in enumerate(owners)}
    renamed = {
        n: f"m{numbers[n.rpartition('.')[0]]}.{n.rpartition('.')[2]}" for n in state
    }
    # A file of safetensors lists them in an order of its own.
    return {renamed[name]: state[name] for name in sorted(state, reverse=True)}


@pytest.mark.parametrize("names", ["its own", "scrambled"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join([c[0], *map(str, c[2])]))
def test_a_twin_becomes_the_model(case, names):
    target, leaves, state = twins(*case)
    state = state if names == "its own" else scrambled(state)
    layout = pair_up(
        shapes(state), shapes(leaves), order=target.spec.layers, example=case[1]
    )
    found = layout.of_model(state, "params")
    assert found.keys() == leaves.keys()
    for name, values in leaves.items():
        assert np.array_equal(found[name], values), name
    layout.check_round_trip(state, "params")
    assert all(name.endswith("num_batches_tracked") for name in layout.dropped)
    if names == "its own":
        assert {pair.how for pair in layout.pairs} == {"name"}


def test_a_choice_among_alike_is_reported():
    ours = {f"params/{n}/kernel": (3, 3) for n in ("a", "b")} | {"params/c/bias": (7,)}
    theirs = {"x2.weight": (3, 3), "x10.weight": (3, 3), "y.bias": (7,)}
    ours["params/c/kernel"], theirs["y.weight"] = (3, 7), (7, 3)
    layout = pair_up(theirs, ours, order=("a", "b", "c"))
    how = {pair.theirs: (pair.ours, pair.how) for pair in layout.pairs}
    assert how["x2.weight"] == ("params/a/kernel", "order")
    assert how["x10.weight"] == ("params/b/kernel", "order")
    assert how["y.weight"] == ("params/c/kernel", "shape")
    table = pair_up(theirs, ours, order=("a", "b", "c"), names={"x10": "a"})
    how = {pair.theirs: (pair.ours, pair.how) for pair in table.pairs}
    assert how["x10.weight"] == ("params/a/kernel", "table")
    assert how["x2.weight"] == ("params/b/kernel", "shape")


def test_an_embedding_is_looked_up_and_not_turned():
    ours = {"params/words/embedding": (9, 4), "params/out/kernel": (4, 9)}
    layout = pair_up({"e.weight": (9, 4), "o.weight": (9, 4)}, ours)
    forms = {pair.ours: pair.form for pair in layout.pairs}
    assert forms == {"params/words/embedding": "same", "params/out/kernel": "linear"}


def test_a_flatten_can_be_said():
    ours = {"params/c/kernel": (3, 3, 1, 4), "params/d/kernel": (8, 5)}
    theirs = {"c.weight": (4, 1, 3, 3), "d.weight": (5, 8)}

    def form(**table):
        layout = pair_up(theirs, ours, order=("c", "d"), **table)
        return next(p for p in layout.pairs if p.theirs == "d.weight")

    assert form()[2:4] == ("flatten", 4)
    assert form(flatten={"d": 2})[2:4] == ("flatten", 2)
    assert form(flatten={"d": 1})[2] == "linear"


@pytest.mark.parametrize(
    ("theirs", "table", "said"),
    [
        ({"a.weight": (3, 2)}, {}, "fits no module"),
        ({"a.weight": (4, 2), "b.weight": (4, 2)}, {}, "2 modules like"),
        ({}, {}, "has no partner"),
        ({"a.weight": (4, 2)}, {"names": {"b": "fc"}}, "names holds 'b'"),
        ({"a.weight": (4, 2)}, {"names": {"a": "cf"}}, "expected one of fc"),
        ({"a.weight": (4, 2)}, {"flatten": {"b": 2}}, "flatten holds 'b'"),
        ({"a.weight": (4, 2)}, {"flatten": {"a": 3}}, "expected a divisor"),
    ],
)
def test_what_does_not_fit_is_refused(theirs, table, said):
    with pytest.raises(InputError, match=said) as caught:
        pair_up(theirs, {"params/fc/kernel": (2, 4)}, **table)
    assert "\n" not in str(caught.value)


FORMS = {"same": (3,), "linear": (3, 5), "conv": (4, 3, 2, 5), "flatten": (5, 12)}


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    st.sampled_from(list(FORMS)), st.sampled_from([1, 2, 3, 4, 6]), st.integers(0, 99)
)
def test_there_and_back_changes_no_bit(form, channels, seed):
    values = np.random.default_rng(seed).normal(size=FORMS[form]).astype(np.float32)
    values.flat[0] = np.nan
    layout = Layout((Pair("a", "params/a", form, channels),))
    layout.check_round_trip({"a": values}, "params")


def test_a_flatten_moves_channels_last():
    maps = np.arange(24, dtype=np.float32).reshape(2, 3, 4)  # [C, H, W]
    kernel = np.random.default_rng(0).normal(size=(5, 24))
    layout = Layout((Pair("a", "params/a", "flatten", 2),))
    ours = layout.of_model({"a": kernel}, "params")["params/a"]
    assert np.allclose(kernel @ maps.ravel(), maps.transpose(1, 2, 0).ravel() @ ours)


def test_names_that_are_missing_or_too_many_are_named():
    layout = Layout((Pair("a", "params/a"), Pair("m", "batch_stats/m")))
    one = np.ones(1)
    assert layout.of_model({"a": one}, "update", partial=True).keys() == {"params/a"}
    for tensors, said in (({"m": one}, "lacks a"), ({"a": one, "z": one}, "has z")):
        with pytest.raises(InputError, match=said):
            layout.of_model(tensors, "update", partial=True)
