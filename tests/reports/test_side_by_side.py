"""Runs side by side: what is compared, and what the page says of it."""

import json
import re
from itertools import pairwise

import pytest
from browser import Page, in_chromium
from fake_runs import write_run
from fakes import NASTY

from jaxinv import audits
from jaxinv.reports.side_by_side import read_reports, write_comparison
from jaxinv.reports.side_by_side.cases import CASES
from jaxinv.reports.side_by_side.compare import compare
from jaxinv.reports.side_by_side.page import render

ALL = sorted(CASES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two runs of every case."""
    base = tmp_path_factory.mktemp("runs")
    return {
        case: [write_run(case, base / f"{case}-{seed}", seed) for seed in (0, 1)]
        for case in ALL
    }


@pytest.fixture(scope="module")
def mixed(folders, tmp_path_factory):
    """The page of two runs of each case, of sweeps of images alone: 16 are the most."""
    pairs = [
        pair
        for case, pair in folders.items()
        if not case.startswith("sweep of ") or case == "sweep of images"
    ]
    runs = read_reports([folder for pair in pairs for folder in pair])
    page = write_comparison(runs, tmp_path_factory.mktemp("mixed") / "new" / "out")
    return runs, page


def test_every_audit_can_be_compared():
    assert set(audits.CASES) <= set(CASES)


@pytest.mark.parametrize("case", ALL)
def test_a_case_beside_itself(case, folders):
    found = compare(read_reports(folders[case]))
    assert [run["label"] for run in found["runs"]] == ["A", "B"]
    assert found["same"]["case"] == case and not set(found["same"]) & set(
        found["different"]
    )
    (numbers,), (entries,) = found["numbers"], found["entries"]
    row = CASES[case]
    assert len(numbers["rows"]["B"]) == len(row.numbers) + 2
    assert entries["runs"] == ["A", "B"] and entries["rows"]
    for one in entries["rows"]:
        assert [len(values) for values in one["values"]] == [2] * len(row.compared)


def test_settings_that_differ_and_those_that_do_not(folders):
    found = compare(read_reports(folders["images"]))
    assert found["different"] == {"seed": ["0", "1"]}
    assert found["same"]["attack"] == "Deep Leakage from Gradients"
    assert found["same"]["tv"] == "not set" and found["same"]["version of jax"]
    # A setting that the other case does not have at all is no difference.
    mixed = compare(read_reports([folders["images"][0], folders["recommender"][0]]))
    assert mixed["different"]["case"] == ["images", "recommender"]
    assert mixed["same"]["tv"] == "not set" and "tv" not in mixed["different"]
    assert mixed["entries"] == []


def test_a_setting_that_only_one_of_a_case_has_is_a_difference(folders, tmp_path):
    folder = write_run("images", tmp_path / "more")
    report = json.loads((folder / "report.json").read_text("utf-8"))
    report["settings"]["attack.tv"] = 0.1
    (folder / "report.json").write_text(json.dumps(report))
    found = compare(read_reports([folders["images"][0], folder]))
    assert found["different"] == {"attack.tv": [None, "0.1"]}
    text = render(read_reports([folders["images"][0], folder]), found)
    assert ">n/a<" in text and ">0.1<" in text


def test_the_same_example_stands_beside_itself(folders, tmp_path):
    folder = write_run("images", tmp_path / "fewer")
    report = json.loads((folder / "report.json").read_text("utf-8"))
    del report["examples"][0]
    (folder / "report.json").write_text(json.dumps(report))
    (entries,) = compare(read_reports([folders["images"][1], folder]))["entries"]
    psnr = {row["key"]: row["values"][0] for row in entries["rows"]}
    assert psnr == {0: [21.0, None], 1: [22.0, 21.0], 2: [23.0, 22.0]}
    # Other data has other examples under the same numbers.
    report["dataset"]["name"] = "other"
    (folder / "report.json").write_text(json.dumps(report))
    assert compare(read_reports([folders["images"][1], folder]))["entries"] == []


def test_the_page_says_it_all(mixed):
    runs, page = mixed
    text = page.read_text("utf-8")
    seen = Page(text)
    words = " ".join("".join(seen.words).split())
    assert f"{len(runs)} runs side by side" in words
    for run in runs:
        assert " ".join(run.report["verdict"]["headline"].split()) in words
        assert " ".join(run.report["command"].split()) in words
    assert seen.tags.count("h1") == 1 and "None" not in words
    # Two runs of images, three examples, each with its picture.
    assert seen.tags.count("img") == len(seen.alts) == 6 and all(seen.alts)
    assert all(one.startswith("data:image/png;base64,") for one in seen.loads)
    assert all('scope="' in cell for cell in re.findall(r"<th\b[^>]*>", text))
    assert len(re.findall(r"<caption", text)) == text.count('<div class="scroll"')
    loaded = json.loads((page.parent / "compare.json").read_text("utf-8"))
    assert loaded == json.loads(json.dumps(compare(runs)))


def test_headings_are_in_order(mixed):
    levels = [int(tag[1]) for tag in Page(mixed[1].read_text("utf-8")).tags
              if re.fullmatch(r"h[1-6]", tag)]  # fmt: skip
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_names_do_nothing_in_a_browser(mixed, tmp_path):
    text = mixed[1].read_text("utf-8")
    assert NASTY not in text and Page(text).runs_nothing_of_others()
    dom = in_chromium(text, tmp_path)
    assert dom.count("<script>") == 1 and "<button" in dom
    ids = re.findall(r'\bid="([^"]*)"', dom)
    assert len(ids) == len(set(ids))


def test_what_lies_in_the_folder_stays(folders, tmp_path):
    folder = write_run("images", tmp_path / "mine")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    write_comparison(read_reports([folder, folders["images"][1]]), folder)
    after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert before.items() <= after.items()
    new = {path.name for path in set(after) - set(before)}
    assert new == {"compare.html", "compare.json"}
