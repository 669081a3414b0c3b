"""Throws bytes at the readers of images and ratings, guided by coverage.

    pip install -e '.[fuzz]'
    python tests/fuzz/fuzz_data.py CORPUS -max_total_time=300 -rss_limit_mb=1024 \
        -timeout=10 -max_len=65536 -print_final_stats=1

The first byte of a case picks the format, the rest is the file; an idx file's labels
are good ones beside it. What a case may do is as in `fuzz_files.py`.
"""

import io
import pickle
import struct
import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["jaxinv.data"]):
    from jaxinv.data import bounded, load_images
    from jaxinv.data.ratings import load_ratings
    from jaxinv.errors import InputError

bounded.MAX_BYTES = 64 * 2**20
NAMES = ("a.npz", "images-idx3-ubyte", "batch.bin", "data_batch_1", "r.csv", "r.npz")


def one_case(content: bytes) -> None:
    """Reads one made-up file."""
    if not content:
        return
    name = NAMES[content[0] % len(NAMES)]
    path = Path(FOLDER, name)
    path.write_bytes(content[1:])
    try:
        if name.startswith("r."):
            load_ratings(path)
        else:
            found = load_images(path)
            assert found.x.nbytes <= bounded.MAX_BYTES
    except InputError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 2000, text[:300]


def seeds() -> list[bytes]:
    """A valid file of each format, led by the byte that picks it."""
    x, y = np.zeros((2, 3, 3), np.uint8), np.zeros(2, np.int64)
    images, ratings = io.BytesIO(), io.BytesIO()
    np.savez(images, x=x, y=y)
    np.savez(ratings, user=y + 1, item=np.arange(2), rating=np.ones(2))
    idx = struct.pack(">IIII", 0x803, *x.shape) + x.tobytes()
    batch = {b"data": np.zeros((1, 3072), np.uint8), b"labels": [1]}
    csv = b"user,item,rating\n1,2,3.5\n1,3,4\n"
    binary, pickled = bytes(3073), pickle.dumps(batch, protocol=2)
    files = (images.getvalue(), idx, binary, pickled, csv, ratings.getvalue())
    return [bytes([index]) + file for index, file in enumerate(files)]


def main() -> None:
    """Fills the corpus and hands over to the fuzzer."""
    labels = struct.pack(">II", 0x801, 2) + bytes(2)
    Path(FOLDER, "labels-idx1-ubyte").write_bytes(labels)
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
