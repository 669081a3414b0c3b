"""The report of recovered graphs: the verdict is honest, the page is harmless."""

import base64
import copy
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import Page
from fake_graphs import fake_citations, fake_molecules, turned
from fakes import NASTY

from jaxinv.audits.graphs import AuditResult
from jaxinv.audits.graphs.packing import packed, unpacked
from jaxinv.audits.graphs.record import summary
from jaxinv.data.graphs import molecule_graph, molecule_spec
from jaxinv.isomorphism import isomorphic
from jaxinv.reports.folder import jsonable
from jaxinv.reports.graphs import judge, render, write_report
from jaxinv.reports.graphs.difference import beside
from jaxinv.reports.graphs.gallery import MAX_SHOWN, gallery
from jaxinv.reports.graphs.molecule import molecule_uri
from jaxinv.reports.graphs.network import layout, layout_like
from jaxinv.reports.graphs.verdict import rate, rating


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    result = fake_molecules()
    return result, write_report(result, tmp_path_factory.mktemp("written") / "out")


@pytest.fixture(scope="module")
def citations():
    return fake_citations()


def words_of(text):
    return " ".join("".join(Page(text).words).split())


def test_every_end_has_its_name(written):
    entries = written[0].report["graphs"]
    expected = ["proved", "exact", "among", "gave up", "wrong unique"]
    assert [rate(entry) for entry in entries] == expected
    assert [entry["exact"] for entry in entries] == [True, True, False, False, False]
    assert [entry["in_class"] for entry in entries] == [True, True, True, False, False]
    assert rating(entries[0]) == "exact, no other found"
    assert rating(entries[1]) == "exact, at least 2 fit"
    assert rating(entries[2]) == "among 10 that fit"
    assert [entry["gsm1"] == 1 for entry in entries] == [True, True, *[False] * 3]


def test_one_graph_that_may_not_be_the_only_one(written):
    """It is ambiguous without a second graph to show for it."""
    entry = {**written[0].report["graphs"][1], "class_size": 1, "complete": False}
    entry["class"] = entry["class"][:1]
    assert rate(entry) == "alone" and rating(entry) == "exact, others not ruled out"
    report = {**written[0].report, "graphs": [entry], "summary": summary([entry], [])}
    verdict = judge(report)
    assert "other molecules fit, or were not ruled out" in verdict.headline
    words = words_of(render(AuditResult(report), verdict))
    assert "exact, others not ruled out" in words and "1 or more" in words
    assert "Below," not in words and "1+" not in words


def test_the_summary_adds_up(written):
    found = written[0].report["summary"]
    assert found["graphs"] == 5
    assert (found["unique"], found["ambiguous"], found["gave_up"]) == (2, 2, 1)
    assert (found["exact"], found["exact_unique"], found["in_class"]) == (2, 1, 3)
    assert found["wrong_unique"] == 1 and found["controls_solved"] == 0
    entries = written[0].report["graphs"]
    assert found["edge_share_mean"] == pytest.approx(
        np.mean([entry["edge_share"] for entry in entries])
    )
    # Nothing recovered counts 0, not nothing.
    assert entries[3]["gsm0"] == 0 and entries[4]["edge_share"] == 0


def test_the_verdict_comes_first(written):
    verdict = judge(written[0].report)
    assert verdict.level == "exact"
    assert verdict.headline == (
        "2 of 5 molecules were recovered exactly, each from one gradient; 1 with a "
        "certificate that no other molecule of the sizes looked at fits."
    )
    assert verdict.details[0].startswith("1 of 5 molecules was called unique and is")
    for said in (
        "Negative control passed: 2 gradients",
        "the truth is among several",
        "On 1 of 5 molecules it gave up at the neighbourhoods.",
        "told that these are molecules",
        "stopped early",
    ):
        assert (said in " ".join(verdict.details)) == (said != "stopped early")


def entries_of(*rates):
    """Entries of a report, one that was rated so for each."""
    some = {rate(e): e for e in fake_molecules().report["graphs"]}
    return [some[name] for name in rates]


@pytest.mark.parametrize(
    ("rates", "level", "says"),
    [
        (["proved"], "exact", "1 of 1 molecule was recovered exactly, from one "
         "gradient; it is certified: no other molecule of the sizes looked at fits."),
        (["proved"] * 2, "exact", "all are certified"),
        (["exact", "gave up"], "exact", "of none is it certain, for other molecules"),
        (["among", "gave up"], "traces", "1 of 2 molecules was narrowed down to a few"),
        (["gave up"] * 2, "nothing", "gave up on all 2 molecules and recovered noth"),
        (["wrong unique"], "nothing", "This attack recovered none of 1 molecule."),
        ([], "none", "No molecule was finished"),
    ],
)  # fmt: skip
def test_headlines(written, rates, level, says):
    entries = entries_of(*rates)
    report = {**written[0].report, "graphs": entries, "summary": summary(entries, [])}
    verdict = judge(report)
    assert (verdict.level, says in verdict.headline) == (level, True)
    assert "No negative control was run." in verdict.details or not rates


def test_a_control_that_gives_a_graph_is_an_alarm():
    result = fake_molecules(wrong=False, controls=(False, True))
    verdict = judge(result.report)
    assert "The negative control failed: of 2 gradients" in verdict.details[0]
    page = render(result, verdict)
    assert 'class="alarm"><dt>of 2 controls' in page
    assert 'class="alarm"><dt>called unique' not in page
    assert "a graph, ambiguous" in words_of(page)


def test_json_round_trip(written):
    """The record holds the graphs: the page can be drawn again from it alone."""
    result, page = written
    loaded = json.loads((page.parent / "report.json").read_text("utf-8"))
    verdict = loaded.pop("verdict")
    assert loaded == jsonable(result.report)
    assert verdict["headline"] == judge(loaded).headline
    assert render(AuditResult(loaded), judge(loaded)) == page.read_text("utf-8")


def test_packed_graphs_come_back(citations):
    spec = molecule_spec()
    acetone = molecule_graph("CC(C)=O", 1, spec)
    entry = json.loads(json.dumps(packed(acetone)))
    back = unpacked(entry, spec.num_features)
    for mine, yours in zip(acetone, back, strict=True):
        np.testing.assert_array_equal(mine, yours)
    columns = citations.report["dataset"]["num_features"]
    first = citations.report["graphs"][0]
    truth, pick = (unpacked(first[name], columns) for name in ("truth", "pick"))
    assert isomorphic(truth, pick) and not np.array_equal(truth[0], pick[0])


def test_page_is_harmless_and_accessible(written):
    text = written[1].read_text("utf-8")
    seen = Page(text)
    assert NASTY not in text and "".join(seen.words).count(NASTY) >= 4
    assert seen.runs_nothing_of_others() and "b" not in seen.tags
    assert all(one.startswith("data:image/svg+xml;base64,") for one in seen.loads)
    assert "default-src 'none'" in text and seen.tags.count("h1") == 1
    pictures = re.findall(r"<svg[^>]*>", text)
    assert all('role="img"' in one and "aria-label=" in one for one in pictures)
    assert len(seen.alts) == seen.tags.count("img") and all(seen.alts)
    assert all('scope="' in cell for cell in re.findall(r"<th\b[^>]*>", text)[:20])


def test_page_says_what_matters(written):
    result, page = written
    text = page.read_text("utf-8")
    words = words_of(text)
    for said in (
        judge(result.report).headline,
        "exact, at least 2 fit",
        "5 of 9 others with the same gradient",
        "another molecule with the same gradient",
        "wrong, called unique",
        "nothing, as it should be",
        "gave up (<b>no",
        "gave up at the neighbourhoods",
        "Finding little is not proof of safety",
        result.report["command"],
    ):
        assert said in words
    assert "None" not in words and "nan" not in words.lower()
    # Red, since the attack was sure and wrong.
    assert '<div class="alarm"><dt>called unique, but wrong</dt><dd>1</dd>' in text
    assert '<td class="alarm">unique</td>' in text


def test_molecules_are_drawn_side_by_side(written):
    shown = gallery(written[0].report)
    assert len(shown) == 5
    for one in shown[:3]:
        assert one.truth.uri and one.pick is not None and one.pick.uri
    # The same molecule in another order is the same picture.
    assert shown[0].truth.uri == shown[0].pick.uri and not shown[0].wrong
    assert shown[3].pick is None
    # Six atoms without a bond are no molecule: dots, with their elements on them.
    alone = shown[4].pick.network
    assert [dot.name for dot in alone.dots] == ["C"] * 6 and not alone.lines
    assert [len(one.others) for one in shown] == [0, 1, 5, 0, 0]
    for one in shown[:3]:
        text = base64.b64decode(one.truth.uri.partition(",")[2])
        root = ElementTree.fromstring(text)
        assert root.tag.endswith("svg") and len(list(root)) > 3


def test_wrong_edges_are_marked(citations):
    page = render(citations, judge(citations.report))
    exact, off = gallery(citations.report)
    assert not exact.wrong and off.wrong
    assert exact.truth.network.lines and not any(
        line.wrong for line in exact.truth.network.lines
    )
    # The same place for the same node, on either side.
    places = [sorted(dot[:3] for dot in side.network.dots) for side in exact[1:3]]
    assert places[0] == places[1]
    lost = citations.report["graphs"][1]
    assert len(off.pick.network.dots) == lost["num_nodes"] - 1
    wrong = [sum(x.wrong for x in side.network.lines) for side in off[1:3]]
    # Edges of the lost node on the left, at least the one made up on the right.
    assert min(wrong) >= 1 and page.count('class="wrong" x1') == sum(wrong)
    assert "Edges that the other side does not have are red" in words_of(page)
    assert "random numbers" in words_of(page)


def test_beside_finds_the_difference():
    spec = molecule_spec()
    butane = molecule_graph("CCCC", 0, spec)
    ring = turned(butane)._replace(adjacency=np.zeros((4, 4), np.float32))
    ring.adjacency[[0, 1, 1, 2, 3, 0], [1, 0, 2, 1, 0, 3]] = 1
    side = beside(butane, ring, [[0, 3], [1, 2], [2, 1], [3, 0]])
    assert side.partner == (0, 1, 2, 3)
    assert side.missed == ((0, 1),) and side.extra == ((0, 3),)
    marked = molecule_uri(butane, side.missed)
    assert marked != molecule_uri(butane)
    lost = beside(butane, ring, [[0, 3]])
    assert lost.partner == (0, None, None, None) and len(lost.missed) == 3


def test_many_graphs_show_the_doubtful_first(written):
    report = copy.deepcopy(written[0].report)
    proved, doubtful = report["graphs"][0], report["graphs"][3]
    report["graphs"] = [
        {**entry, "index": i}
        for i, entry in enumerate([proved] * MAX_SHOWN + [doubtful])
    ]
    shown = gallery(report)
    assert len(shown) == MAX_SHOWN and shown[0].entry["index"] == MAX_SHOWN
    page = render(AuditResult(report), judge(written[0].report))
    assert f"Here are {MAX_SHOWN} of {MAX_SHOWN + 1}" in words_of(page)


def test_every_piece_has_a_place_of_its_own():
    """Three rings and a lone atom: none lies across another, none is in a corner."""
    spec = molecule_spec()
    rings = molecule_graph("C1CCCCC1.C1CCCC1.C1CC1.O", 0, spec)
    where = np.array(layout(rings))
    assert where.min() == 0 and where.max() == 1 and len(where) == 15
    pieces = [where[:6], where[6:11], where[11:14], where[14:]]
    centres = np.array([piece.mean(0) for piece in pieces])
    for i, piece in enumerate(pieces):
        apart = np.linalg.norm(centres - centres[i], axis=1)
        radius = np.linalg.norm(piece - centres[i], axis=1).max()
        assert radius < np.delete(apart, i).min()
    assert layout(molecule_graph("O", 0, spec)) == [(0.5, 0.5)]


def test_unmatched_nodes_stand_beside_their_neighbours():
    spec = molecule_spec()
    ethanol = molecule_graph("CCO", 0, spec)
    where = layout_like(ethanol, {0: (0.2, 0.2), 1: (0.4, 0.4)})
    assert where[:2] == [(0.2, 0.2), (0.4, 0.4)]
    assert 0 < np.hypot(where[2][0] - 0.4, where[2][1] - 0.4) < 0.2
    assert len(set(layout_like(ethanol, {}))) == 3
