"""The record's account of how restarts went on."""

import json

import numpy as np

from jaxinv.attacks.base import Reconstruction
from jaxinv.audits.convergence import RECORDS, convergence
from jaxinv.history import NOWHERE, Spread
from jaxinv.run import Run

NOTHING = Reconstruction(None, np.zeros(()), np.zeros((), np.int32))


def test_a_long_run_is_told_of_evenly_and_to_its_end():
    num = 50
    steps, scores = 6 * np.arange(1, num + 1), np.geomspace(1, 1e-5, num)
    quartiles = scores[:, None] * [2, 3, 4]
    quartiles[-1] = np.nan
    starts, diverged = np.full(num, 8), np.arange(num) // 7
    spread = Spread(quartiles, starts, diverged)
    told = convergence(Run(NOTHING, steps, scores, 1.0, False, spread))
    assert {len(values) for values in told.values()} == {RECORDS}
    assert told["steps"][0] == 6 and told["steps"][-1] == 300
    assert max(np.diff(told["steps"])) <= 18
    rows = np.array(told["steps"]) // 6 - 1
    np.testing.assert_allclose(told["best"], scores[rows], rtol=1e-5)
    for column, name in enumerate(("lower_quartile", "median", "upper_quartile")):
        expected = quartiles[rows[:-1], column]
        np.testing.assert_allclose(told[name][:-1], expected, rtol=1e-5)
        assert told[name][-1] is None
    assert told["diverged"] == diverged[rows].tolist()
    json.dumps(told, allow_nan=False)


def test_a_closed_form_has_empty_lists():
    none = np.zeros(0)
    told = convergence(Run(NOTHING, none, none, 0.0, False, NOWHERE))
    assert set(map(len, told.values())) == {0} and len(told) == 7
