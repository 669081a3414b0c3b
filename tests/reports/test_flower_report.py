"""The report of a federation: what it says, and that nothing in it runs or loads."""

import json
import re

import pytest
from browser import Page, in_chromium
from fake_flower import fake_federation, reply
from fakes import NASTY

from jaxinv.reports.flower import judge, write_report


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_report(fake_federation(), tmp_path_factory.mktemp("flower"))


def test_what_the_page_says(written):
    text = written.read_text("utf-8")
    seen = Page(text)
    words = " ".join("".join(seen.words).split())
    for said in (
        judge(fake_federation()).headline,
        "In 2 of 2 rounds at least one image came back",
        "1 of 4 updates was kept back",
        "1 audit failed",
        "how clients train on their own",
        "Finding little is not proof of safety",
        f"flwr run {NASTY}",
        NASTY,
    ):
        assert " ".join(said.split()) in words
    assert seen.runs_nothing_of_others() and NASTY not in text
    assert seen.tags.count("h1") == 1 and seen.tags.count("img") == len(seen.alts) == 1
    assert all(load.startswith("data:image/") for load in seen.loads)
    assert all('scope="' in cell for cell in re.findall(r"<th\b[^>]*>", text))
    report = json.loads((written.parent / "report.json").read_text("utf-8"))
    assert report["verdict"]["level"] == "exact"


def test_in_a_browser_every_reply_can_be_found(tmp_path):
    replies = [reply(n, str(node)) for n in range(1, 5) for node in (3, 4)]
    page = write_report(fake_federation(replies), tmp_path).read_text("utf-8")
    shown = in_chromium(
        page,
        tmp_path,
        "document.title = document.querySelectorAll('.scroll > table tbody tr').length"
        " + ' rows, ' + document.querySelectorAll('th button').length",
    )
    found = re.search(r"<title>(\d+) rows, (\d+)</title>", shown)
    assert int(found[1]) == 4 + 8 and int(found[2]) > 5


def unjudged(*rounds):
    return [reply(n, client=None, psnr=None, ssim=None) for n in rounds]


def test_without_a_truth_no_verdict(tmp_path):
    report = fake_federation(unjudged(1, 2))
    verdict = judge(report)
    assert verdict.level == "none"
    assert verdict.headline.startswith("2 replies were audited, and nobody held")
    page = write_report(report, tmp_path).read_text("utf-8")
    words = "".join(Page(page).words)
    assert (
        "score of each reply" in words
        and "practically exact" not in words.split("By round")[0]
    )
    one = judge(fake_federation(unjudged(1)))
    assert one.headline.startswith("1 reply was audited")


def test_nothing_audited_is_said(tmp_path):
    report = fake_federation([])
    assert judge(report).level == "none"
    words = "".join(Page(write_report(report, tmp_path).read_text("utf-8")).words)
    assert "nothing to judge" in words and "There is nothing to draw" in words


@pytest.mark.parametrize(
    ("psnr", "identified", "level"),
    [
        ([50.0, 9.0], 0.5, "exact"),
        ([28.0, 9.0], 0.5, "recognisable"),
        ([18.0, 9.0], 0.0, "traces"),
        ([9.0, 9.0], 1.0, "identified"),
        ([9.0, 9.0], 0.0, "nothing"),
        ([None, None], 0.0, "nothing"),
    ],
)
def test_the_worst_image_decides(psnr, identified, level):
    replies = [reply(psnr=psnr, identified=identified), reply(2, psnr=[9.0, 9.0])]
    replies[1]["identified"] = identified
    assert judge(fake_federation(replies)).level == level


def test_identification_counts_where_its_chance_is_known():
    quiet = {"psnr": [9.0, 9.0], "identified": 1.0}
    assert judge(fake_federation([reply(**quiet)])).level == "identified"
    unknown = [reply(**quiet), reply(2, **{**quiet, "chance": None})]
    assert judge(fake_federation(unknown)).level == "nothing"
    by_luck = [reply(**{**quiet, "chance": 0.5})]
    assert judge(fake_federation(by_luck)).level == "nothing"
