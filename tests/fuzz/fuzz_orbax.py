"""Damages the files of a folder of orbax at random and reads it, in this process.

    python tests/fuzz/fuzz_orbax.py SECONDS

The reader may return tensors or raise InputError; anything else ends the run. What
tensorstore's threads print meanwhile is why `read_orbax` has a process of its own.
"""

import random
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

from jaxinv.data import bounded
from jaxinv.errors import InputError
from jaxinv.exchange.from_orbax import tensors_in

bounded.MAX_BYTES = 64 * 2**20


def damaged(content: bytearray, rng: random.Random) -> bytearray:
    """A few bytes changed, cut off or put in between."""
    for _ in range(rng.randint(1, 8)):
        how = rng.random()
        if content and how < 0.7:
            odd = rng.choice([0, 255, rng.randrange(256), ord("9"), ord("{")])
            content[rng.randrange(len(content))] = odd
        elif content and how < 0.85:
            del content[rng.randrange(len(content)) :]
        else:
            place = rng.randrange(len(content) + 1)
            content[place:place] = rng.randbytes(rng.randint(1, 9))
    return content


def main(seconds: float) -> None:
    """Prints how many cases there were and how many were read."""
    rng, cases, read, slowest = random.Random(0), 0, 0, 0.0
    with tempfile.TemporaryDirectory() as base:
        good, case = Path(base, "good"), Path(base, "case")
        layer = {"kernel": np.ones((3, 4), np.float32), "bias": np.zeros(4, np.float32)}
        ocp.PyTreeCheckpointer().save(good, {"fc": layer})
        files = sorted(p.relative_to(good) for p in good.rglob("*") if p.is_file())
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            shutil.rmtree(case, ignore_errors=True)
            shutil.copytree(good, case)
            for _ in range(rng.randint(1, 2)):
                file = case / rng.choice(files)
                file.write_bytes(damaged(bytearray(file.read_bytes()), rng))
            start = time.monotonic()
            try:
                tensors_in(case)
                read += 1
            except InputError as error:
                assert "\n" not in str(error) and len(str(error)) < 1000
            slowest = max(slowest, time.monotonic() - start)
            cases += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{cases} cases, {read} read, slowest {slowest:.2f} s, peak {peak} MB")


if __name__ == "__main__":
    main(float(sys.argv[1]))
