"""Arrays on their way: exact there and back, and nothing believed of what they say."""

import io

import jax
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinv.errors import InputError
from jaxinv.flower import arrays_of, in_order
from jaxinv.flower.arrays import read_arrays


def test_a_tree_comes_back_bit_by_bit(world):
    record = arrays_of(world.params)
    # As Flower sends it: every array apart, then put together.
    children = dict(_inflated(record))
    found = in_order(world.params)(read_arrays(children))
    jax.tree.map(np.testing.assert_array_equal, found, world.params)


def _inflated(record):
    for key, array in record.items():
        chunks = array.children
        yield key, Array.inflate(array.deflate(), children=chunks)


def test_names_follow_what_was_sent():
    sent = {"b": np.zeros(2), "a": np.zeros(3)}
    record = ArrayRecord({"a": Array(np.ones(3)), "b": Array(np.ones(2))})
    assert list(read_arrays(record, like=sent)) == ["b", "a"]


def _array(**changes):
    good = Array(np.arange(6.0).reshape(2, 3))
    fields = {name: getattr(good, name) for name in ("dtype", "shape", "stype", "data")}
    return Array(**(fields | changes))


def _claiming(shape, dtype="<f8"):
    """A header that promises what does not follow."""
    stream = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + bytes(8)


def _pickled():
    stream = io.BytesIO()
    np.save(stream, np.array([[None] * 3] * 2, object), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (_array(stype="torch"), "is 'torch'; expected 'numpy.ndarray'"),
        (_array(shape=(3, 2)), "as it says"),
        (Array(np.zeros((3, 2))), "has shape .3, 2.; expected .2, 3."),
        (_array(data=_claiming((2, 3))), "holds .* bytes; expected 48"),
        (_array(data=_claiming((10**9, 10**9))), "as it says"),
        (_array(data=_pickled()), "holds object of shape"),
        (_array(data=b"\x80\x04nonsense"), "is not readable"),
        (_array(data=_array().data + bytes(9999)), "holds .* bytes; expected 48"),
    ],
)
def test_an_array_that_lies_is_refused(array, words):
    like = {"w": np.zeros((2, 3))}
    with pytest.raises(InputError, match=words):
        read_arrays(ArrayRecord({"w": array}), like=like)


def test_a_size_beyond_the_limit_is_refused_before_it_is_allocated():
    shape = (10**6, 10**6)
    array = _array(shape=shape, data=_claiming(shape))
    with pytest.raises(InputError, match="more than the limit"):
        read_arrays({"w": array})


def test_other_names_are_refused():
    with pytest.raises(InputError, match="differ from those that were sent in v, w"):
        read_arrays(ArrayRecord({"v": _array()}), like={"w": np.zeros((2, 3))})


def test_a_list_of_other_shapes_is_refused(world):
    arrays = read_arrays(arrays_of(world.params))
    arrays.pop("3")
    with pytest.raises(InputError, match="the leaves of params in order"):
        in_order(world.params)(arrays)


def test_a_record_survives_a_message(world):
    content = RecordDict({"arrays": arrays_of(world.params)})
    assert list(content.array_records["arrays"]) == ["0", "1", "2", "3"]


def _headed(text):
    """An array whose header is that text."""
    raw = text.encode("latin-1") + b"\n"
    head = b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little")
    return head + raw + bytes(48)


@pytest.mark.parametrize(
    "text", ["-" * 9000 + "1", "(" * 9000, "{'descr': '<f8'", "\x00" * 9, "'" * 3]
)
def test_a_header_that_python_s_parser_chokes_on_is_refused(text):
    # Thousands of signs end in a MemoryError, which is no lack of memory.
    like = {"w": np.zeros((2, 3))}
    array = _array(data=_headed(text))
    with pytest.raises(InputError, match="is not readable"):
        read_arrays(ArrayRecord({"w": array}), like=like)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_bytes_of_an_array_are_read_or_refused(data):
    content = bytearray(_array().data)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    like = {"w": np.zeros((2, 3))}
    array = _array(data=bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        found = read_arrays(ArrayRecord({"w": array}), like=like)
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert found["w"].shape == (2, 3)
