"""Starts of one run divided over eight devices, which are threads of one processor."""

import os
import subprocess
import sys

import divided_runs
import numpy as np
import pytest

SAME = ("statuses", "steps_taken", "kept")


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    out = tmp_path_factory.mktemp("eight") / "found.npz"
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, divided_runs.__file__, str(out)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return np.load(out)


def of(found, name):
    return {k.split()[1]: found[k] for k in found.files if k.split()[0] == name}


@pytest.mark.parametrize("name", divided_runs.RUNS)
def test_they_find_what_one_device_does(eight, name):
    many, one = of(eight, name), divided_runs.outcome(name)
    assert one["devices"] == 1
    for part in SAME:
        np.testing.assert_array_equal(many[part], one[part])
    for part in ("scores", "curve", "quartiles", "certified"):
        np.testing.assert_allclose(many[part], one[part], rtol=1e-4)
    np.testing.assert_allclose(many["best"], one["best"], atol=1e-4)


def test_the_same_share_comes_to_the_same_bits(eight):
    many, one = of(eight, "whole"), divided_runs.outcome("whole", chunk=4)
    assert many["chunk"] == 8 * one["chunk"] == 32
    for part in ("best", "certified", "scores", "curve", "quartiles", *SAME):
        np.testing.assert_array_equal(many[part], one[part])


def test_how_many_devices_take_part(eight):
    expected = dict.fromkeys(divided_runs.RUNS, 8)
    expected |= {"fewer_than_devices": 3, "one_start": 1, "on_one": 1}
    found = {name: int(of(eight, name)["devices"]) for name in expected}
    assert found == expected


def test_one_start_and_a_chosen_device_run_as_before(eight):
    for name, run in (("one_start", "one_start"), ("on_one", "whole")):
        alone, one = of(eight, name), divided_runs.outcome(run)
        assert alone["chunk"] == one["chunk"]
        for part in ("best", "scores", "curve", *SAME):
            np.testing.assert_array_equal(alone[part], one[part])
