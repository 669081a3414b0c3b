"""Throws bytes at every reader of untrusted files, guided by coverage.

    pip install -e '.[fuzz]'
    python tests/fuzz/fuzz_files.py CORPUS -max_total_time=1200 -rss_limit_mb=1024 \
        -timeout=10 -max_len=65536 -print_final_stats=1

The first byte of a case picks the format, the rest is the file. A reader may return
tensors or raise InputError; anything else, more memory than the limit and more than ten
seconds are findings, and end the run. The limit of `jaxinv.data.bounded` is lowered, so
that an array that is allocated before its size was checked shows. CORPUS is filled with
valid files if it is empty. The readers' own modules are instrumented, not NumPy's.
"""

import io
import json
import struct
import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["jaxinv.exchange", "jaxinv.data", "msgpack"]):
    from jaxinv.data import bounded
    from jaxinv.errors import InputError
    from jaxinv.exchange.client_file import read_client
    from jaxinv.exchange.files import read_tensors
    from jaxinv.exchange.pairing import pair_up
    from jaxinv.exchange.unnamed import with_names

bounded.MAX_BYTES = 64 * 2**20
SUFFIXES = (".safetensors", ".npz", ".msgpack", ".toml", "")
SHAPES = {"params/fc/kernel": (3, 4), "params/fc/bias": (4,)}


def one_case(content: bytes) -> None:
    """Reads one made-up file."""
    if not content:
        return
    suffix = SUFFIXES[content[0] % len(SUFFIXES)]
    with tempfile.NamedTemporaryFile(suffix=suffix, dir=FOLDER) as file:
        file.write(content[1:])
        file.flush()
        try:
            if suffix == ".toml":
                read_client(file.name)
            else:
                found = read_tensors(file.name)
                assert sum(v.nbytes for v in found.values()) <= bounded.MAX_BYTES
                found = with_names(found, ("fc.weight", "fc.bias"), "update")
                pair_up({name: v.shape for name, v in found.items()}, SHAPES)
        except InputError as error:
            text = str(error)
            assert "\n" not in text and len(text) < 2000, text
        except RecursionError:
            raise AssertionError("nested too deep") from None


def seeds() -> list[bytes]:
    """A valid file of each format, led by the byte that picks it."""
    values = {"fc.weight": np.ones((4, 3), np.float32), "fc.bias": np.zeros(4, "f4")}
    unnamed = io.BytesIO()
    np.savez(unnamed, *values.values())
    header, body = {}, b""
    for name, array in values.items():
        place = [len(body), len(body) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": place}
        body += array.tobytes()
    text = json.dumps(header).encode()
    safetensors = struct.pack("<Q", len(text)) + text + body
    stream = io.BytesIO()
    np.savez(stream, **values)
    from flax.serialization import msgpack_serialize

    packed = msgpack_serialize({"fc": {"kernel": values["fc.weight"].T}})
    example = Path(__file__).parents[2] / "examples" / "update" / "client.toml"
    toml = example.read_bytes()
    files = (safetensors, stream.getvalue(), packed, toml, safetensors)
    led = [bytes([index]) + file for index, file in enumerate(files)]
    return [*led, bytes([SUFFIXES.index(".npz")]) + unnamed.getvalue()]


def main() -> None:
    """Fills the corpus and hands over to the fuzzer."""
    corpus = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    if corpus is not None and not sys.argv[1].startswith("-"):
        corpus.mkdir(parents=True, exist_ok=True)
        if not any(corpus.iterdir()):
            for index, content in enumerate(seeds()):
                (corpus / f"seed-{index}").write_bytes(content)
    atheris.Setup(sys.argv, one_case)
    atheris.Fuzz()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as FOLDER:
        main()
