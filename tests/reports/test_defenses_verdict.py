"""What a comparison of defences is said to show, from its numbers alone."""

import pytest

from jaxinv.reports.defenses.verdict import affordable, holds, judge


def row(name, psnr, identified=0.0, accuracy=0.9, loss=0.0, blind=None):
    attempts = [{"attacker": "adaptive", "psnr": psnr, "identified": identified}]
    if blind is not None:
        attempts.append({"attacker": "blind", "psnr": blind, "identified": 0.0})
    strongest = max(attempts, key=lambda one: one["psnr"] or 0)
    return {
        "defense": name,
        "attempts": attempts,
        "strongest": strongest,
        "accuracy": accuracy,
        "accuracy_loss": loss,
    }


def report(*rows, interrupted=False):
    return {
        "rows": list(rows),
        "num_examples": 16,
        "chance": 1 / 2000,
        "interrupted": interrupted,
    }


PLAIN = row("none", 30.0, 1.0)


@pytest.mark.parametrize(
    "psnr, identified, held",
    [
        (12.0, 0.0, True),
        (None, None, True),
        (25.0, 0.0, False),
        (24.9, 0.0, True),
        # One of 16 among 2,000 is already more than one in a hundred guesses right.
        (12.0, 1 / 16, False),
    ],
)
def test_a_defence_holds_where_nothing_is_recognised_or_singled_out(
    psnr, identified, held
):
    one = row("sign", psnr, identified)
    assert holds(one, report(PLAIN, one)) is held


def test_of_few_images_in_a_small_pool_one_may_be_luck():
    one = row("sign", 12.0, 1 / 16)
    assert holds(one, {**report(one), "chance": 1 / 20})
    # Of two attempts one is twice as likely to be lucky.
    twice = row("sign", 12.0, 1 / 16, blind=9.0)
    assert holds(twice, report(twice)) and not holds(
        row("sign", 9, 1 / 16), report(one)
    )


def test_the_weaker_attempt_counts_if_it_singles_out():
    one = row("sign", 10.0, 0.5, blind=20.0)
    assert one["strongest"]["identified"] == 0.0
    assert not holds(one, report(one))


def test_headlines_follow_what_held_and_what_it_cost():
    good, dear = row("sign", 9.0), row("noise", 9.0, loss=0.3)
    broken = row("soteria", 30.0, 1.0, blind=12.0)
    assert affordable(good) and not affordable(dear)
    told = judge(report(PLAIN, good, dear, broken))
    assert told.level == "nothing" and told.headline.startswith("1 of 3 defences holds")
    assert "sign" in told.headline and "noise" not in told.headline
    assert any("overstated by 3 dB or more for soteria" in d for d in told.details)
    told = judge(report(PLAIN, dear, broken))
    assert told.level == "traces" and "noise" in told.headline
    assert judge(report(PLAIN, broken)).level == "exact"


def test_attacks_that_fail_undefended_judge_nothing():
    weak = row("none", 13.0)
    told = judge(report(weak, row("sign", 9.0)))
    assert told.level == "none" and "even without a defence" in told.headline
    # Blurred pictures that single out their originals are a leak all the same.
    told = judge(report(row("none", 16.4, 0.94), row("sign", 9.0)))
    assert told.level == "nothing"


def test_an_unfinished_comparison_says_so():
    assert judge(report(PLAIN)).level == "none"
    told = judge(report(PLAIN, row("sign", 9.0), interrupted=True))
    assert "stopped early" in told.details[0]
