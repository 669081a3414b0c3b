"""Files of tensors: what goes in comes out, what is hostile is refused in a line."""

import io
import json
import struct
import zipfile

import flax.serialization as flax_serialization
import jax.numpy as jnp
import ml_dtypes
import msgpack
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinv.data import bounded
from jaxinv.errors import InputError
from jaxinv.exchange import declared, from_orbax, read_tensors
from jaxinv.exchange.from_msgpack import tensors_of

VALUES = {
    "conv/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "conv/bias": np.array([1.5, -0.0, np.nan], np.float16),
    "count": np.array(7, np.int64),
    "wide": np.array([1e300, 2.0]),
}


def nested(values):
    tree = {"count": values["count"], "wide": values["wide"]}
    conv = {"kernel": values["conv/kernel"], "bias": values["conv/bias"]}
    return tree | {"conv": conv}


def written(kind, folder):
    """The values as a file of that kind."""
    path = folder / f"values.{kind}"
    if kind == "safetensors":
        safetensors.numpy.save_file(VALUES, path)
    elif kind == "npz":
        np.savez_compressed(path, **VALUES)
    elif kind == "msgpack":
        path.write_bytes(flax_serialization.msgpack_serialize(nested(VALUES)))
    else:
        import orbax.checkpoint as ocp

        path = folder / "checkpoint"
        ocp.PyTreeCheckpointer().save(path, nested(VALUES))
    return path


@pytest.mark.parametrize("kind", ["safetensors", "npz", "msgpack", "orbax"])
def test_every_format_comes_back_bit_for_bit(kind, tmp_path):
    found = read_tensors(written(kind, tmp_path))
    assert found.keys() == VALUES.keys()
    for name, values in VALUES.items():
        assert found[name].shape == values.shape
        assert found[name].dtype == values.dtype
        assert found[name].tobytes() == values.tobytes()


def test_bfloat16_keeps_its_type(tmp_path):
    values = np.array([[1.0, 3.140625]], ml_dtypes.bfloat16)
    path = tmp_path / "half.msgpack"
    path.write_bytes(flax_serialization.msgpack_serialize({"a": jnp.asarray(values)}))
    other = tmp_path / "half.safetensors"
    other.write_bytes(container({"a": entry("BF16", [1, 2], 0, 4)}, values.tobytes()))
    for file in (path, other):
        found = read_tensors(file)["a"]
        assert found.dtype == ml_dtypes.bfloat16
        assert found.tobytes() == values.tobytes()


def test_a_large_array_of_flax_comes_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(flax_serialization, "MAX_CHUNK_SIZE", 64)
    values = np.arange(300, dtype=np.float32).reshape(3, 100)
    content = flax_serialization.msgpack_serialize({"a": {"b": values}})
    assert b"chunks" in content
    assert np.array_equal(tensors_of(content)["a/b"], values)


def entry(dtype, shape, start, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def container(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


HUGE = [2**20, 2**20, 2**7]
ONCE = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
SAFETENSORS = {
    "a header longer than the file": struct.pack("<Q", 2**40) + b"{}",
    "an empty file": b"",
    "no JSON": container(b"{" * 100_000),
    "no table": container(b"[]"),
    "more bytes than are stored": container({"a": entry("F32", [100], 0, 4)}, b"1234"),
    "more than the limit": container({"a": entry("F32", HUGE, 0, 4)}, b"1234"),
    "a place outside": container({"a": entry("F32", [1], 0, 2**40)}, b"1234"),
    "a place before": container({"a": entry("F32", [1], -4, 0)}, b"1234"),
    "a name twice": container(b"{%s,%s}" % (ONCE, ONCE), b"1234"),
    "an unknown type": container({"a": entry("F8_E4M3", [4], 0, 4)}, b"1234"),
    "a type that is a table": container({"a": entry({}, [1], 0, 4)}, b"1234"),
    "a negative length": container({"a": entry("F32", [-1, -1], 0, 4)}, b"1234"),
    "many axes": container({"a": entry("F32", [1] * 99, 0, 4)}, b"1234"),
    "a name that climbs": container({"../a": entry("F32", [1], 0, 4)}, b"1234"),
    "a name from the root": container({"/etc/a": entry("F32", [1], 0, 4)}, b"1234"),
    "a name that is not printable": container(
        {"a\n\x1b": entry("F32", [1], 0, 4)}, b"1234"
    ),
    "a long name": container({"a" * 9999: entry("F32", [1], 0, 4)}, b"1234"),
    "bytes that belong to nobody": container(
        {"a": entry("F32", [1], 0, 4)}, b"12345678"
    ),
    "two in one place": container(
        {"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 0, 4)}, b"1234"
    ),
}


@pytest.mark.parametrize("what", SAFETENSORS)
def test_hostile_safetensors(what, tmp_path):
    refused(tmp_path / "a.safetensors", SAFETENSORS[what])


def packed(shape, dtype="float32", body=b"1234", code=1):
    return msgpack.ExtType(code, msgpack.packb([shape, dtype, body]))


BOMB = b"\x91" * 900 + b"\xc0"
MSGPACK = {
    "an array of 2^32 entries": b"\xdd\xff\xff\xff\xff",
    "a map of 2^32 entries": b"\xdf\xff\xff\xff\xff",
    "lists in lists": BOMB,
    "maps in maps": b"\x81\xa1a" * 300 + b"\xc0",
    "half a file": flax_serialization.msgpack_serialize({"a": np.ones(99)})[:50],
    "more bytes than are stored": msgpack.packb({"a": packed([100])}),
    "more than the limit": msgpack.packb({"a": packed(HUGE)}),
    "an unknown type": msgpack.packb({"a": packed([1], "object")}),
    "a type that is a table": msgpack.packb({"a": packed([1], {})}),
    "another extension": msgpack.packb({"a": packed([1], code=77)}),
    "a name twice": b"\x82\xa1a\xc0\xa1a\xc0",
    "a name that climbs": msgpack.packb({"..": packed([1])}),
    "text": msgpack.packb({"a": "text"}),
    "a chunk that lacks": msgpack.packb(
        {"a": {"__msgpack_chunked_array__": True, "shape": {"0": 1}, "chunks": {}}}
    ),
}


@pytest.mark.parametrize("what", MSGPACK)
def test_hostile_msgpack(what, tmp_path):
    refused(tmp_path / "a.msgpack", MSGPACK[what])


def archive(*members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for info, content in members:
            file.writestr(info, content)
    return stream.getvalue()


def npy(values):
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=True)
    return stream.getvalue()


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


def lying():
    """A header that declares 2^40 numbers in front of four bytes."""
    good = npy(np.ones(1, np.float32))
    return good.replace(b"(1,), }", b"(1099511627776,), }").replace(
        b"            \n", b"\n"
    )


ARCHIVES = {
    "a link": archive((link("a.npy"), b"/etc/passwd")),
    "a name that climbs": archive(("../a.npy", npy(np.ones(1)))),
    "objects": archive(("a.npy", npy(np.array([{}], object)))),
    "something else": archive(("a.npy", npy(np.ones(1))), ("run.py", b"1")),
    "a pickle of PyTorch": archive(("archive/data.pkl", b"\x80\x02.")),
    "half a file": archive(("a.npy", npy(np.ones(99))))[:200],
    "more than is stored": archive(("a.npy", lying())),
}


@pytest.mark.parametrize("what", ARCHIVES)
def test_hostile_archives(what, tmp_path):
    refused(tmp_path / "a.npz", ARCHIVES[what])


def test_a_pickle_is_refused_with_the_cure(tmp_path):
    for name, content in (
        ("a.pt", b"PK\x03\x04 data.pkl"),
        ("b.pkl", b"\x80\x04K\x01."),
    ):
        said = refused(tmp_path / name, content)
        assert "readable" in said or "safetensors.torch.save_file" in said
    said = refused(tmp_path / "c.npz", ARCHIVES["a pickle of PyTorch"])
    assert "runs code" in said


def test_links_in_a_folder_of_orbax_are_refused(tmp_path):
    folder = written("orbax", tmp_path)
    (folder / "d" / "more").symlink_to("/etc/passwd")
    assert "link" in refused(folder)


def test_a_damaged_folder_of_orbax_is_refused(tmp_path):
    folder = written("orbax", tmp_path)
    for file in (folder / "d").iterdir():
        file.write_bytes(b"\0" * 100)
    refused(folder)
    (folder / "_METADATA").write_text('{"tree_metadata": {"a": 1}}')
    refused(folder)
    refused(tmp_path)


def test_a_folder_of_orbax_that_declares_too_much_is_refused(tmp_path, monkeypatch):
    folder = written("orbax", tmp_path)
    monkeypatch.setattr(bounded, "MAX_BYTES", 100)
    assert "limit" in refused(folder)
    with pytest.raises(InputError, match="limit"):
        from_orbax.tensors_in(folder)


def test_too_many_tensors_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(declared, "MAX_TENSORS", 3)
    assert "limit" in refused(written("safetensors", tmp_path))


@pytest.mark.parametrize("path", ["nowhere.npz", ".", "/dev/zero"])
def test_what_is_no_file_is_refused_at_once(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(path)


SEEDS = [
    container({"a": entry("F32", [1], 0, 4)}, b"1234"),
    flax_serialization.msgpack_serialize({"a": {"b": np.ones((2, 2), np.float32)}}),
    archive(("a.npy", npy(np.ones((2, 2), np.float32)))),
]
SUFFIXES = (".safetensors", ".msgpack", ".npz", "")


@settings(max_examples=300, derandomize=True, deadline=2000)
@given(
    st.sampled_from(SUFFIXES),
    st.one_of(
        st.binary(max_size=200),
        st.tuples(
            st.sampled_from(SEEDS),
            st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
            st.integers(0, 400),
        ),
    ),
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, suffix, case):
    if isinstance(case, tuple):
        seed, changes, cut = case
        content = bytearray(seed)
        for place, value in changes:
            content[place % len(content)] = value
        case = bytes(content[: max(1, cut)]) if cut < 200 else bytes(content)
    path = tmp_path_factory.getbasetemp() / f"case{suffix}"
    path.write_bytes(case)
    try:
        found = read_tensors(path)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
    else:
        assert all(isinstance(values, np.ndarray) for values in found.values())


def refused(path, content=None):
    """The one line that a file gets."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_tensors(path)
    text = str(caught.value)
    assert text.isprintable() and len(text) < 1000
    return text
