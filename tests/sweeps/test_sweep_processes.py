"""Sweeps in processes of their own: killed, on many devices, in several processes."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxinv.sweeps import sweep
from jaxinv.sweeps.folder import locked
from jaxinv.sweeps.kinds import KINDS
from jaxinv.sweeps.store import Store

# Each seed has weights of its own, and so a batch of its own: there is time to kill.
SPEC = """
seeds = [0, 1, 2, 3, 4, 5]
checkpoint_s = {every}

[[cases]]
name = "digits"
data = "digits"
target = "mlp"
num_examples = 2
set = {{ "target.widths" = [[8]] }}

[[attacks]]
name = "inverting_gradients"
restarts = 5
iterations = 100
"""

GRAPHS = """
audit = "citations"
checkpoint_s = 0

[[cases]]
name = "papers"
num = 3
width = 40

[[attacks]]
name = "grain"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps")
    for name, every in (("often", 0), ("seldom", 1000)):
        (folder / f"{name}.toml").write_text(SPEC.format(every=every))
    (folder / "graphs.toml").write_text(GRAPHS)
    return folder


def start(place, out, *more, devices=1, spec="seldom"):
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {
        "XLA_FLAGS": flags,
        "JAX_COMPILATION_CACHE_DIR": str(place / "cache"),
        "JAX_PLATFORMS": "cpu",
    }
    words = ["sweep", str(place / f"{spec}.toml"), "--out", str(place / out), *more]
    return subprocess.Popen(
        [sys.executable, "-m", "jaxinv", *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process, timeout=240):
    errors = process.communicate(timeout=timeout)[1]
    return process.returncode, errors


def together(place, out, **options):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        start(
            place,
            out,
            *f"--coordinator 127.0.0.1:{port} --processes 2 --process {i}".split(),
            **options,
        )
        for i in (0, 1)
    ]


def rows(place, out, audit="images"):
    store = Store(place / out / "rows", KINDS[audit].columns)
    return store.read().sort_by([("job", "ascending")])


def alike(one, other):
    assert one["job"].equals(other["job"]) and one["index"].equals(other["index"])
    for name in ("psnr", "score"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def whole(place):
    code, errors = ended(start(place, "whole"))
    assert code == 0, errors
    found = rows(place, "whole")
    assert found.num_rows == 12
    return found


def wait_for_checkpoint(place, out, beyond=0):
    folder = place / out / "checkpoints"
    for _ in range(2400):
        names = [p.name for p in folder.iterdir()] if folder.exists() else []
        if any(name.isdigit() and int(name) > beyond for name in names):
            return
        time.sleep(0.05)
    raise AssertionError("no checkpoint was written")


def test_killed_and_started_again_it_is_the_same(place, whole):
    for beyond in (0, 3):
        process = start(place, "killed", spec="often")
        wait_for_checkpoint(place, "killed", beyond)
        process.kill()
        assert ended(process)[0] != 0
    assert rows(place, "killed").num_rows < whole.num_rows
    code, errors = ended(start(place, "killed"))
    assert code == 0, errors
    assert rows(place, "killed").equals(whole)


def test_another_process_on_the_same_folder_is_refused(place, whole):
    with locked(place / "taken"):
        code, errors = ended(start(place, "taken"))
    assert code == 2 and "another sweep is running there" in errors


def test_eight_devices_find_what_one_does(place, whole):
    code, errors = ended(start(place, "eight", devices=8))
    assert code == 0, errors
    alike(rows(place, "eight"), whole)


def test_two_processes_find_what_one_does(place, whole):
    for code, errors in map(ended, together(place, "two", devices=2)):
        assert code == 0, errors
    alike(rows(place, "two"), whole)


def test_two_processes_divide_the_graphs(place, tmp_path):
    for code, errors in map(ended, together(place, "graphs", spec="graphs")):
        assert code == 0, errors
    found = rows(place, "graphs", "citations")
    alone = sweep(place / "graphs.toml", tmp_path).rows()
    assert found.num_rows == 3 and found.equals(alone)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_run_and_one_alone_finishes_it(place, whole, lost):
    out = f"lost{lost}"
    processes = together(place, out, spec="often")
    wait_for_checkpoint(place, out, 1)
    processes[lost].kill()
    began = time.monotonic()
    code, errors = ended(processes[1 - lost])
    assert time.monotonic() - began < 90
    # Where the loss shows in a barrier, JAX aborts before anybody can say so.
    assert code in (3, -signal.SIGABRT), errors
    if code == 3:
        assert "a process of the sweep was lost" in errors
        assert "Traceback" not in errors
    ended(processes[lost])
    code, errors = ended(start(place, out))
    assert code == 0, errors
    alike(rows(place, out), whole)
