"""Thresholds of the evidence on updates: how they are chosen, what they rest on."""

import json
from pathlib import Path

import pytest

from bench.update_thresholds import (
    CLAIMS,
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
    ("psnr", "ssim", "strong", "weak"),
    [
        ([30.0], [None], True, True),
        ([30.0], [0.2], False, False),
        ([30.0, 10.0], [0.9, 0.9], True, True),
        ([30.0, 10.0, 10.0], [0.9, 0.9, 0.9], False, True),
        ([16.0], [0.4], False, True),
    ],
)
def test_what_makes_a_claim_true(psnr, ssim, strong, weak):
    one = {"psnr": psnr, "ssim": ssim}
    assert (holds(one, "strong"), holds(one, "weak")) == (strong, weak)


def test_the_threshold_with_the_most_right_claims_is_chosen():
    good = [audit(0.01, 30.0, 40.0), audit(0.06, 30.0, 40.0)]
    bad = [audit(0.12, 30.0, 10.0), audit(0.01, 14.0, 10.0)]
    assert choose(good + bad, "strong") == Threshold(0.07, 15.0)
    assert tried(good + bad, "strong", Threshold(0.2, 10.0)) == (4, 2, 0)


def test_the_code_makes_the_claims_that_were_measured():
    own = {claim: Threshold(EXPLAINS[claim], AGREE[claim]) for claim in EXPLAINS}
    for one in AUDITS:
        named = strength({"evidence": one["evidence"], "control": one["control"]})
        made = [claim for claim in own if claimed(one, own[claim])]
        assert named == (made[0] if made else "nothing")


def test_strong_was_chosen_on_one_half_and_holds_on_the_other():
    calibrating, held_out = halves(AUDITS)
    own = Threshold(EXPLAINS["strong"], AGREE["strong"])
    assert own == choose(calibrating, "strong")
    found = tried(held_out, "strong", own)
    assert found.claims >= 30 and found.share() <= WRONG


def test_weak_claims_nothing_for_a_reason():
    strong, weak = (Threshold(EXPLAINS[c], AGREE[c]) for c in CLAIMS)
    rest = [one for one in AUDITS if not claimed(one, strong)]
    assert tried(rest, "weak", weak).share() > 0.5
