"""What is said of a client: read, checked, and refused in a line that says the cure."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinv.errors import InputError
from jaxinv.exchange.client_file import client_of, read_client

EXAMPLE = Path(__file__).parents[2] / "examples" / "update" / "client.toml"
DATA = {"shape": [8, 8, 3], "num_classes": 4}
CLIENT = {"sent": "weights", "examples": 2, "learning_rate": 0.1, "steps": 3}


def said(**changes):
    client = {k: v for k, v in {**CLIENT, **changes}.items() if v is not None}
    return client_of({"data": DATA, "client": client})


def test_the_example_is_read():
    client = read_client(EXAMPLE)
    assert client.sent == "weights" and client.labels == (3,)
    assert client.local.learning_rate == 0.1 and client.local.local_steps == 1
    assert client.spec.shape == (32, 32, 3) and client.spec.std == (0.25,) * 3


def test_a_gradient_needs_no_training():
    client = said(sent="gradient", learning_rate=None, steps=None)
    assert client.local is None and client.reduction == "mean"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sent": "weight"}, "expected one of gradient, delta, weights"),
        ({"sent": None}, "client.sent is missing"),
        ({"examples": 0}, "positive integer"),
        ({"examples": True}, "positive integer"),
        ({"learning_rate": None}, "step size behind the weights"),
        ({"learning_rate": -1}, "client.learning_rate"),
        ({"sent": "gradient"}, "given for a gradient"),
        ({"epochs": 2}, "client.epochs"),
        ({"batch_size": 3}, "client.batch_size is 3; expected a divisor"),
        ({"optimizer": "adamw"}, "expected one of sgd, momentum, adam"),
        ({"labels": [1]}, "expected a list of 2"),
        ({"labels": [1, 4]}, "client.labels holds 4; expected 0 to 3"),
        ({"defenses": ["prunning"]}, "did you mean pruning"),
        ({"defenses": "pruning"}, "expected a list"),
        ({"reduction": "none"}, "expected one of mean, sum"),
        ({"batch_norm": "eval"}, "expected one of frozen, batch"),
        ({"learnin_rate": 1}, "did you mean learning_rate"),
    ],
)
def test_wrong_entries_are_named(changes, words):
    with pytest.raises(InputError) as caught:
        said(**changes)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"shape": [8, 8]}, "num_classes is missing"),
        ({"shape": [2**20] * 3, "num_classes": 2}, "too large"),
        ({"shape": [8, -8, 3], "num_classes": 2}, "positive integer"),
        ({"shape": "8", "num_classes": 2}, "expected [height, width, channels]"),
        ({**DATA, "mean": [0.5]}, "one for each of the 3 channels"),
        ({**DATA, "std": [0, 1, 1]}, "positive"),
        ({**DATA, "mean": [float("nan")] * 3}, "a number for each channel"),
    ],
)
def test_wrong_data_is_named(data, words):
    with pytest.raises(InputError) as caught:
        client_of({"data": data, "client": CLIENT})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[clint]\n", "did you mean client"),
        ("client = 3\n", "'client' is unknown"),
        ("[data\n", "no readable TOML"),
        ("a = " + "[" * 5000, "no readable TOML"),
        ("\xff", "no readable TOML"),
    ],
)
def test_files_that_are_none_get_one_line(text, words, tmp_path):
    path = tmp_path / "client.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as caught:
        read_client(path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)
) | st.lists(st.integers(-3, 9), max_size=3)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.dictionaries(st.sampled_from([*CLIENT, "epochs", "labels", "order"]), VALUES))
def test_any_value_is_read_or_refused(changes):
    try:
        said(**changes)
    except InputError as error:
        assert len(str(error)) < 500
