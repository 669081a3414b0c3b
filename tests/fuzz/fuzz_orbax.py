"""Damages the files of a folder of orbax at random and reads it.

    python tests/fuzz/fuzz_orbax.py SECONDS --seed 1
    python tests/fuzz/fuzz_orbax.py SECONDS --seed 1 --whole

The reader may return tensors or raise InputError; anything else ends the run. It reads
in this process, hundreds of times faster; what tensorstore's threads print meanwhile is
why `read_orbax` has a process of its own. `--whole` is that one, a process for a case.
"""

import argparse
import random
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

from jaxinv.data import bounded
from jaxinv.errors import InputError
from jaxinv.exchange.from_orbax import read_orbax, tensors_in

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


def main() -> None:
    """Prints how many cases there were and how many were read."""
    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole", action="store_true")
    args = parser.parse_args()
    reader = read_orbax if args.whole else tensors_in
    rng, cases, read, slowest = random.Random(args.seed), 0, 0, 0.0
    with tempfile.TemporaryDirectory() as base:
        good, case = Path(base, "good"), Path(base, "case")
        layer = {"kernel": np.ones((3, 4), np.float32), "bias": np.zeros(4, np.float32)}
        ocp.PyTreeCheckpointer().save(good, {"fc": layer})
        files = sorted(p.relative_to(good) for p in good.rglob("*") if p.is_file())
        end = time.monotonic() + args.seconds
        while time.monotonic() < end:
            shutil.rmtree(case, ignore_errors=True)
            shutil.copytree(good, case)
            for _ in range(rng.randint(1, 2)):
                file = case / rng.choice(files)
                file.write_bytes(damaged(bytearray(file.read_bytes()), rng))
            start = time.monotonic()
            try:
                reader(case)
                read += 1
            except InputError as error:
                assert "\n" not in str(error) and len(str(error)) < 1000
            slowest = max(slowest, time.monotonic() - start)
            cases += 1
    who = resource.RUSAGE_CHILDREN if args.whole else resource.RUSAGE_SELF
    peak = resource.getrusage(who).ru_maxrss // 1024
    print(f"{cases} cases, {read} read, slowest {slowest:.2f} s, peak {peak} MB")


if __name__ == "__main__":
    main()
