"""Thresholds of the evidence on updates: how they are chosen, what they rest on."""

import json
from pathlib import Path

import pytest

from bench.update_thresholds import (
    WRONG,
    Threshold,
    choose,
    claimed,
    halves,
    holds,
    tried,
)
from jaxinv.reports.update.verdict import AGREE, EXPLAINS, strength

RECORD = Path(__file__).parents[2] / "bench" / "results" / "update-evidence-cpu.json"
AUDITS = json.loads(RECORD.read_text("utf-8"))["audits"]


def audit(left, agreement, psnr, *, client=0, control=1.0):
    own = {"unexplained": left, "unexplained_grey": 1.0, "agreement": agreement}
    return {
        "client": client,
        "evidence": own,
        "control": {"unexplained": control},
        "psnr": [psnr],
        "ssim": [None],
    }


def test_a_claim_needs_grey_control_and_starts_behind_it():
    threshold = Threshold(0.1, 25.0)
    assert claimed(audit(0.05, 30.0, 0.0), threshold)
    assert not claimed(audit(0.2, 30.0, 0.0), threshold)
    assert not claimed(audit(0.05, 20.0, 0.0), threshold)
    assert not claimed(audit(0.05, 30.0, 0.0, control=0.1), threshold)


@pytest.mark.parametrize(
    ("psnr", "ssim", "strong", "some"),
    [
        ([30.0], [None], True, True),
        ([30.0], [0.2], False, False),
        ([30.0, 10.0], [0.9, 0.9], True, True),
        ([30.0, 10.0, 10.0], [0.9, 0.9, 0.9], False, True),
        ([16.0], [0.4], False, True),
    ],
)
def test_what_makes_a_claim_true(psnr, ssim, strong, some):
    one = {"psnr": psnr, "ssim": ssim}
    assert (holds(one, "strong"), holds(one, "some")) == (strong, some)


def test_the_threshold_with_the_most_right_claims_is_chosen():
    good = [audit(0.01, 30.0, 40.0), audit(0.06, 30.0, 40.0)]
    bad = [audit(0.12, 30.0, 10.0), audit(0.01, 14.0, 10.0)]
    assert choose(good + bad, "strong") == Threshold(0.07, 30.0)
    assert tried(good + bad, "strong", Threshold(0.2, 10.0)) == (4, 2, 0)


def test_the_code_makes_the_claims_that_were_measured():
    for one in AUDITS:
        named = strength({"evidence": one["evidence"], "control": one["control"]})
        strong = claimed(one, Threshold(EXPLAINS["strong"], AGREE["strong"]))
        assert (named == "strong") == strong


def test_strong_evidence_is_rarely_wrong_where_it_was_not_chosen():
    calibrating, held_out = halves(AUDITS)
    own = Threshold(EXPLAINS["strong"], AGREE["strong"])
    assert own == choose(calibrating, "strong")
    found = tried(held_out, "strong", own)
    assert found.claims >= 20 and found.share() <= WRONG
