"""The report of recovered ratings: the verdict is honest, the page is harmless."""

import json
import re

import numpy as np
import pytest
from browser import Page
from fakes import NASTY, fake_rated, fake_result, rater

from jaxinv.audits.recommender import AuditConfig
from jaxinv.audits.recommender.judge import UserRatings
from jaxinv.reports import images
from jaxinv.reports.folder import jsonable
from jaxinv.reports.recommender import judge, write_report
from jaxinv.reports.recommender.strip import MAX_ON_STRIP, strip
from jaxinv.reports.recommender.verdict import rate

WRONG = {"exact": 0.1, "mae": 1.2}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "exact"),
        ({"exact": 0.95, "mae": 0.1}, "most"),
        ({"exact": 0.5, "mae": 0.4}, "closer"),
        ({"exact": 0.5, "mae": 0.41}, "nothing"),
        (WRONG, "nothing"),
        ({"exact": None, "mae": None}, "nothing"),
    ],
)
def test_rate(changes, expected):
    assert rate(rater(**changes)) == expected


@pytest.mark.parametrize(
    ("users", "level", "says"),
    [
        ([rater()] * 3, "exact", "Every rating of 3 of 3 users was recovered exactly."),
        ([rater(), rater(**WRONG)], "exact", "Every rating of 1 of 2 users was"),
        ([rater(exact=0.9, mae=0.1)], "recognisable", "Most ratings of 1 of 1 user"),
        ([rater(exact=0.4, mae=0.2)], "traces", "partly recovered"),
        ([rater(**WRONG)] * 2, "nothing", "recovered nothing usable from 2 users."),
        (
            [rater(**WRONG, status="GAVE_UP")] * 2,
            "nothing",
            "gave up on all 2 users and recovered nothing",
        ),
    ],
)
def test_verdict(users, level, says):
    verdict = judge(fake_rated(users).report)
    assert verdict.level == level
    assert says in verdict.headline


def test_what_qualifies_the_verdict():
    users = [
        rater(0),
        rater(1, **WRONG),
        rater(2, **WRONG, gradient_loss=0.1, status="GAVE_UP"),
        rater(3, **WRONG, gradient_loss=0.1, status="UNDERDETERMINED"),
    ]
    asked = AuditConfig(attack="mgradinv", embedding="random")
    details = " ".join(judge(fake_rated(users, config=asked).report).details)
    for said in (
        "off by 0.8 on average and right for 20 %",
        "stopped early",
        "For 1 of 4 users the attack gave up",
        "For 1 of 4 users the attack says itself that other ratings fit as well",
        "For 1 of 4 users the recovered ratings explain the updates perfectly",
        "this is a baseline",
    ):
        assert said in details
    known = AuditConfig(attack="mgradinv", embedding="known")
    assert "upper bound" in judge(fake_rated(users, config=known).report).details[0]


def test_interactions_have_words_and_a_bar_of_their_own():
    """Finding none has four in five right, and is worth nothing."""
    none = {"exact": 0.8, "mae": 0.2, "guess_mae": 0.2, "f1": 0.0}
    most = {"exact": 0.96, "mae": 0.05, "guess_mae": 0.2, "f1": 0.9}
    asked = AuditConfig(implicit=True)
    assert rate(rater(**none)) == "nothing" and rate(rater(**most)) == "most"
    one = fake_rated([rater(0, **most), rater(1, **none)], config=asked).report
    verdict = judge(one)
    assert (
        verdict.headline == "Most interactions of 1 of 2 users were recovered exactly."
    )
    details = " ".join(verdict.details)
    assert "what is true of most items everywhere" in details
    assert "other interactions make the same updates" in details
    assert one["summary"]["f1_mean"] == pytest.approx(0.45)


def test_the_summary_adds_up():
    users = [rater(0, mae=0.0), rater(1, **WRONG), rater(2, mae=None, exact=None)]
    summary = fake_rated(users).report["summary"]
    assert summary["exact_share"] == pytest.approx(1 / 3)
    assert summary["mae_mean"] == pytest.approx(0.6)
    # 1.96 standard errors of 0 and 1.2.
    assert summary["mae_half_width"] == pytest.approx(1.96 * 0.6)
    assert summary["matched_but_wrong_share"] == pytest.approx(2 / 3)
    assert fake_rated(users[:1]).report["summary"]["mae_half_width"] is None


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    users = [rater(i, num_ratings=20 + 9 * i) for i in range(6)]
    users[4] |= dict.fromkeys(("mae", "auc", "embedding_error", "gradient_loss"))
    users[4] |= {"exact": 0.0, "status": "DIVERGED"}
    result = fake_rated(users)
    result.ratings[0].found[:2] = np.nan, np.inf
    return result, write_report(result, tmp_path_factory.mktemp("written") / "out")


def test_json_round_trip(written):
    result, page = written
    loaded = json.loads((page.parent / "report.json").read_text("utf-8"))
    verdict = loaded.pop("verdict")
    assert loaded == jsonable(result.report)
    assert verdict["headline"] == judge(loaded).headline


def test_page_is_harmless_and_accessible(written):
    text = written[1].read_text("utf-8")
    seen = Page(text)
    assert NASTY not in text and "".join(seen.words).count(NASTY) == 1
    assert seen.runs_nothing_of_others() and not seen.loads
    assert not {name for name in seen.attributes if name.startswith("on")}
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text
    assert seen.tags.count("h1") == 1
    pictures = re.findall(r"<svg[^>]*>", text)
    assert len(pictures) == 4
    assert all('role="img"' in one and 'aria-label="R' in one for one in pictures)
    assert all('scope="' in cell for cell in re.findall(r"<th\b[^>]*>", text))


def test_page_says_what_matters(written):
    result, page = written
    words = " ".join("".join(Page(page.read_text("utf-8")).words).split())
    for said in (
        judge(result.report).headline,
        "Here are 4 of 6 users",
        "in 2 rounds, 10 steps of training apart",
        "the user's own embedding, which never leaves the client",
        "0.5 to 5 in steps of 0.5",
        "Finding little is not proof of safety",
        "entitled to test",
        result.report["command"],
        "DIVERGED",
        "n/a",
    ):
        assert said in words
    assert "None" not in words and "nan" not in words.lower()


def test_pictures_of_an_earlier_audit_go(tmp_path):
    images.write_report(fake_result(), tmp_path)
    assert list((tmp_path / "pictures").iterdir())
    write_report(fake_rated([rater()]), tmp_path)
    assert not list((tmp_path / "pictures").iterdir())
    assert json.loads((tmp_path / "report.json").read_text())["case"] == "recommender"


def test_a_strip_stands_on_its_scale():
    true, found = np.array([5.0, 1.0, 3.0]), np.array([5.0, -9.0, np.nan])
    picture = strip(UserRatings(0, true, found), 1.0, 5.0)
    low, high = (y for y, _ in picture.ticks)
    assert [name for _, name in picture.ticks] == ["1", "5"]
    # Sorted by the true rating; a dot off the scale is just beyond it.
    assert [mark.true for mark in picture.marks] == [low, (low + high) / 2, high]
    assert low < picture.marks[0].found < picture.height
    assert picture.marks[1].found is None
    assert picture.marks[2].found == high
    long = np.arange(500) % 5 + 1.0
    assert len(strip(UserRatings(0, long, long), 1, 5).marks) == MAX_ON_STRIP
