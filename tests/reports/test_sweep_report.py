"""The report of a sweep: what it says, and that nothing in it runs or loads."""

import json
import re

import pytest
from browser import Page, in_chromium
from fake_sweeps import fake_other, fake_swept, line
from fakes import NASTY

from jaxinv.reports.sweep import judge, write_report
from jaxinv.reports.sweep.verdict import levels, strongest


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_report(fake_swept(), tmp_path_factory.mktemp("sweep"))


def test_what_the_page_says(written):
    text = written.read_text("utf-8")
    seen = Page(text)
    words = " ".join("".join(seen.words).split())
    for said in (
        judge(fake_swept().report).headline,
        "6 of 9 jobs are in here, and the same command goes on",
        "12,345",
        "Finding little is not proof of safety",
        NASTY,
    ):
        assert " ".join(said.split()) in words
    assert seen.runs_nothing_of_others() and NASTY not in text
    assert seen.tags.count("h1") == 1 and seen.tags.count("img") == len(seen.alts)
    assert all(load.startswith("data:image/") for load in seen.loads)
    assert all('scope="' in cell for cell in re.findall(r"<th\b[^>]*>", text))
    report = json.loads((written.parent / "report.json").read_text("utf-8"))
    assert report["verdict"]["level"] == "recognisable"


def test_in_a_browser_its_tables_sort(written, tmp_path):
    page = in_chromium(
        written.read_text("utf-8"),
        tmp_path,
        "document.title = document.querySelectorAll('th button').length",
    )
    assert int(re.search(r"<title>(\d+)</title>", page)[1]) > 10


def test_nothing_finished_is_said(tmp_path):
    swept = fake_swept([], jobs_done=0, attack_title="", target="")
    assert judge(swept.report).level == "none"
    words = "".join(Page(write_report(swept, tmp_path).read_text("utf-8")).words)
    assert "nothing to judge" in words and "0 of 9 jobs" in words


@pytest.mark.parametrize(
    "lines, level",
    [
        ([line(psnr=50.0)], "exact"),
        ([line(psnr=28.0), line(defense="sign", psnr=9.0, ssim=0.1)], "recognisable"),
        ([line(psnr=18.0, ssim=0.4)], "traces"),
        ([line(psnr=9.0, ssim=0.1, identified=5)], "identified"),
        ([line(psnr=9.0, ssim=0.1, identified=0)], "nothing"),
        ([line(psnr=None, ssim=None, identified=0)], "nothing"),
    ],
)
def test_the_worst_line_decides(lines, level):
    assert judge(fake_swept(lines).report).level == level


def test_luck_is_not_called_identification():
    # One of six at a chance of one in a hundred, in as many lines: luck.
    lines = [line(psnr=9.0, ssim=0.1, identified=1, varied=[str(i)]) for i in range(9)]
    assert judge(fake_swept(lines).report).level == "nothing"
    assert judge(fake_swept(lines[:1]).report).level == "nothing"


def test_a_setting_is_as_weak_as_its_strongest_attack():
    lines = [
        line(attack="dlg", psnr=9.0, ssim=0.1, identified=0),
        line(attack="rgap", psnr=40.0),
    ]
    report = fake_swept(lines).report
    assert strongest(report)[NASTY, "none"]["attack"] == "rgap"
    assert levels(report) == {(NASTY, "none"): "exact"}


@pytest.mark.parametrize(
    "audit, level, said",
    [
        ("recommender", "recognisable", "recover most ratings exactly"),
        ("molecules", "recognisable", "recover graphs exactly"),
        ("citations", "recognisable", "recover graphs exactly"),
    ],
)
def test_other_audits_are_measured_by_their_own(tmp_path, audit, level, said):
    swept = fake_other(audit)
    verdict = judge(swept.report)
    assert verdict.level == level and said in verdict.headline
    text = write_report(swept, tmp_path).read_text("utf-8")
    seen = Page(text)
    words = " ".join("".join(seen.words).split())
    assert "exact, % of the strongest" in words and "PSNR" not in words
    assert seen.runs_nothing_of_others() and NASTY not in text and NASTY in words


@pytest.mark.parametrize(
    "audit, changes, level",
    [
        ("recommender", {"exact": 1.0}, "exact"),
        ("recommender", {"exact": 0.5, "mae": 0.1}, "traces"),
        ("recommender", {"exact": 0.3, "mae": 0.7}, "nothing"),
        ("molecules", {"exact": 1.0}, "exact"),
        ("molecules", {"exact": 0.0}, "traces"),
        ("molecules", {"exact": 0.0, "in_class": 0.0}, "nothing"),
    ],
)
def test_the_level_of_their_lines(audit, changes, level):
    report = fake_other(audit).report
    report["lines"] = [line | changes for line in report["lines"]]
    assert judge(report).level == level
