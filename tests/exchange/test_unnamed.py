"""Arrays without names: given names by their declared order, or refused in a line."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinv.errors import InputError
from jaxinv.exchange import read_tensors, read_update
from jaxinv.exchange.client_file import client_of
from jaxinv.exchange.unnamed import with_names

NAMES = ("conv.weight", "bn.running_mean", "bn.num_batches_tracked", "fc.bias")


def listed(num):
    return {f"arr_{i}": np.full(1, i) for i in range(num)}


def test_names_go_by_the_number_not_by_the_letter():
    names = [f"layer{i}.weight" for i in range(12)]
    shuffled = dict(sorted(listed(12).items(), reverse=True))
    found = with_names(shuffled, names, "params")
    assert [int(found[name][0]) for name in names] == list(range(12))


def test_gradients_leave_out_the_buffers():
    found = with_names(listed(2), NAMES, "update")
    assert list(found) == ["conv.weight", "fc.bias"]


def test_a_file_with_names_keeps_them():
    tensors = {"conv.weight": np.ones(1), "arr_0": np.ones(1)}
    assert with_names(tensors, NAMES, "update").keys() == tensors.keys()


@pytest.mark.parametrize(
    ("tensors", "names", "words"),
    [
        (listed(3), (), "3 arrays without names; expected client.arrays"),
        (listed(3), NAMES, "3 arrays and client.arrays 4 names, 2 of them trained"),
        (listed(5), ("a", "b"), "5 arrays and client.arrays 2 names; expected a name"),
    ],
)
def test_what_has_no_order_or_another_count_is_refused(tensors, names, words):
    with pytest.raises(InputError) as caught:
        with_names(tensors, names, "update")
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("fc.weight", "expected a list of names"),
        (["fc.weight", 3], "a tensor's name is 3"),
        (["../fc"], "expected a plain name"),
        (["fc.weight", "fc.weight"], "holds 'fc.weight' twice"),
    ],
)
def test_a_wrong_list_is_named(value, words):
    with pytest.raises(InputError) as caught:
        declared(value)
    assert words in str(caught.value)


def declared(arrays):
    data = {"shape": [8, 8, 3], "num_classes": 10}
    client = {"sent": "weights", "examples": 1, "learning_rate": 0.1, "steps": 1}
    client |= {"labels": [3], "arrays": arrays}
    return client_of({"data": data, "client": client})


NAME = st.from_regex(r"(arr_)?[0-9]{1,8}|[a-z.]{1,6}", fullmatch=True)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.dictionaries(NAME, st.just(np.zeros(1)), min_size=1, max_size=6),
    st.lists(NAME, max_size=6, unique=True),
)
def test_any_names_give_every_array_one_or_are_refused(tensors, names):
    try:
        found = with_names(tensors, names, "update")
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 500
    else:
        assert len(found) == len(tensors)


def test_a_list_as_flower_sends_it_is_the_named_file(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="torch is not installed")
    from torch_clients import own_files

    monkeypatch.chdir(own_files(tmp_path))
    scope = {}
    exec((tmp_path / "my_net.py").read_text(), scope)
    # What a client of Flower hands on: the values of the state dict, in its order.
    order = list(scope["Net"]().state_dict())
    for name in ("before", "after"):
        tensors = read_tensors(f"{name}.safetensors")
        np.savez(f"{name}.npz", *(tensors[n] for n in order))
    named, listed = (
        read_update(
            "my_model.py:Net", *(f"{n}.{end}" for n in ("before", "after")), said
        )
        for end, said in (("safetensors", "client.toml"), ("npz", declared(order)))
    )
    trees = (jax.tree.leaves(one.observation) for one in (named, listed))
    for one, other in zip(*trees, strict=True):
        assert np.array_equal(one, other)
    swapped = [order[1], order[0], *order[2:]]
    with pytest.raises(InputError, match="fits no module of the model"):
        read_update("my_model.py:Net", "before.npz", "after.npz", declared(swapped))
    with pytest.raises(InputError, match="params holds 4 arrays without names"):
        read_update("my_model.py:Net", "before.npz", "after.npz", declared([]))
