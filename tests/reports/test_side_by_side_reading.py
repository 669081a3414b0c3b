"""Records from other people: read with care, refused in one line, never trusted."""

import copy
import json
import os

import pytest
from fake_runs import write_run
from fakes import NASTY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxinv.errors import InputError
from jaxinv.reports.side_by_side import checked, read_reports, reading
from jaxinv.reports.side_by_side.cases import CASES
from jaxinv.reports.side_by_side.compare import compare
from jaxinv.reports.side_by_side.page import render


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("base")


@pytest.fixture(scope="module")
def good(base):
    return {case: write_run(case, base / case) for case in CASES}


def beside(good, case, content):
    """What is said of a run of these bytes beside a good one of the case."""
    folder = good[case].parent / "bad"
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_bytes(content)
    runs = read_reports([good[case], folder])
    return render(runs, compare(runs))


def refusal(good, content, case="images"):
    with pytest.raises(InputError) as caught:
        beside(good, case, content)
    said = str(caught.value)
    assert said.startswith(f"{good[case].parent / 'bad'}: report.json: ")
    assert "\n" not in said and len(said) < 600
    return said.partition("report.json: ")[2]


BROKEN = {
    "case": (7, "case is 7; expected a text"),
    "attack": (None, "attack is null; expected a text"),
    "attack_title": (["x"], 'attack_title is ["x"]; expected a text'),
    "settings": ([], "settings is []; expected a table"),
    "knowledge": ([1], "knowledge is [1]; expected a list of texts"),
    "interrupted": ("no", "interrupted is 'no'; expected true or false"),
    "run_s": (True, "run_s is true; expected a number or null"),
    "verdict": ("fine", "verdict is 'fine'; expected a table"),
    "verdict.level": ("scroll", "verdict.level is 'scroll'; expected one of exact"),
    "verdict.headline": ({}, "verdict.headline is {}; expected a text"),
    "dataset.name": (3, "dataset.name is 3; expected a text"),
    "summary.psnr_median": ("12", "summary.psnr_median is '12'; expected a number"),
    "examples": ({}, "examples is {}; expected a list"),
    "examples.1": (4, "examples[1] is 4; expected a table"),
    "examples.1.index": (-1, "examples[1].index is -1; expected a text, or a whole"),
    "examples.2.index": (0, "examples[2].index is 0; expected each of them once"),
    "examples.0.psnr": ([], "examples[0].psnr is []; expected a number or null"),
    "examples.0.class_true": (5, "examples[0].class_true is 5; expected a text"),
    "command": ("x" * 20_001, "command is 'xxxx"),
}


@pytest.mark.parametrize("path", BROKEN)
def test_wrong_kinds_name_the_key(good, path):
    value, says = BROKEN[path]
    report = json.loads((good["images"] / "report.json").read_text("utf-8"))
    place = report
    *way, last = [int(k) if k.isdigit() else k for k in path.split(".")]
    for key in way:
        place = place[key]
    place[last] = value
    assert refusal(good, json.dumps(report).encode()).startswith(says)
    if isinstance(place, dict):
        del place[last]
        name = path.replace(".0.", "[0].").replace(".1.", "[1].").replace(".2.", "[2].")
        said = refusal(good, json.dumps(report).encode())
        assert said == f"{name} is missing"


def test_unknown_cases_get_the_nearest(good):
    report = json.loads((good["images"] / "report.json").read_text("utf-8"))
    report["case"] = "image"
    said = refusal(good, json.dumps(report).encode())
    assert said == "case is 'image'; did you mean images?"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not JSON ("),
        (b"\xff\xfe", "not JSON ("),
        (b"[]", "it is []; expected a table"),
        (b"null", "it is null; expected a table"),
        (b'{"case": NaN}', "holds NaN; expected null where"),
        (b'{"case": -Infinity}', "holds -Infinity; expected null where"),
        (b'{"case": 1e999}', "holds the number '1e999'; expected one below 1e308"),
        (b"9" * 5000, "holds a number of 5000 digits; expected at most 19"),
        (b"[" * 100_000, "nested too deeply; expected a report"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "nested too deeply"),
    ],
    ids=range(10),
)
def test_bytes_that_are_no_report(good, content, says):
    assert refusal(good, content).startswith(says)


def test_settings_may_be_nested_but_not_deeply(good):
    report = json.loads((good["images"] / "report.json").read_text("utf-8"))
    report["settings"]["box"] = [[0, 1], {"a": None}]
    page = beside(good, "images", json.dumps(report).encode())
    assert "[[0, 1], {&#34;a&#34;: null}]" in page
    plain = json.dumps(report).replace('[[0, 1], {"a": null}]', "BOX")
    for depth in (50, 400, 900, 980, 20_000):
        text = plain.replace("BOX", "[" * depth + "]" * depth)
        said = beside_or_refusal(good, "images", text.encode())
        assert said is None or "at most 20,000 characters" in said or "nested" in said
    assert said is not None


def test_size_is_looked_at_first(good, monkeypatch):
    monkeypatch.setattr(reading, "MAX_BYTES", 100)
    with pytest.raises(InputError, match=r"more than 100 bytes; expected a report"):
        read_reports([good["images"], good["recommender"]])
    monkeypatch.undo()
    monkeypatch.setattr(checked, "MAX_ENTRIES", 2)
    with pytest.raises(InputError, match=r"examples is .*expected a list of at most 2"):
        read_reports([good["images"], good["recommender"]])


def test_folders(good, tmp_path):
    with pytest.raises(InputError, match="DIR is given 1 times; expected 2 to 16"):
        read_reports([good["images"]])
    with pytest.raises(InputError, match="given 17 times"):
        read_reports([good["images"]] * 17)
    with pytest.raises(InputError, match=r"twice; expected different folders"):
        read_reports([good["images"], f"{good['images']}/../images"])
    fifo, outside = tmp_path / "fifo", tmp_path / "outside"
    fifo.mkdir(), outside.mkdir()
    os.mkfifo(fifo / "report.json")
    (outside / "report.json").symlink_to(good["images"] / "report.json")
    for bad in (fifo, outside, tmp_path / "gone", "a\0b"):
        with pytest.raises(InputError, match="there is none; expected the folder"):
            read_reports([good["recommender"], bad])


def beside_or_refusal(good, case, content):
    """None if the page was made, else the one line of refusal."""
    try:
        page = beside(good, case, content)
    except InputError as error:
        assert "\n" not in str(error)
        return str(error)
    assert NASTY not in page
    page.encode("utf-8", "replace")
    return None


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(max_size=20)
    | st.sampled_from([NASTY, "../../etc/passwd", "\ud800", "\x1b[31m", 10**30]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("case", CASES)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_record_changed_anywhere_is_shown_or_refused(good, case, data):
    """Nothing else comes of it: no traceback, nothing unescaped."""
    report = json.loads((good[case] / "report.json").read_text("utf-8"))
    for _ in range(data.draw(st.integers(1, 3))):
        place = report
        while True:
            keys = sorted(place) if isinstance(place, dict) else range(len(place))
            if not len(keys):
                break
            key = data.draw(st.sampled_from(list(keys)))
            inner = place[key]
            if isinstance(inner, (dict, list)) and inner and data.draw(st.booleans()):
                place = inner
                continue
            if data.draw(st.booleans()):
                place[key] = copy.deepcopy(data.draw(VALUES))
            else:
                del place[key]
            break
    beside_or_refusal(good, case, json.dumps(report).encode())


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused(good, content):
    assert beside_or_refusal(good, "images", content) is not None


def test_names_in_a_record_reach_no_file(good, tmp_path, monkeypatch):
    """Files are opened by numbers alone, whatever a record calls its examples."""
    asked = []
    monkeypatch.setattr(
        "jaxinv.reports.side_by_side.page.picture_of",
        lambda folder, index: asked.append((folder, index)),
    )
    report = json.loads((good["images"] / "report.json").read_text("utf-8"))
    names = ["../../report", "/etc/passwd", 5]
    for entry, name in zip(report["examples"], names, strict=True):
        entry["index"] = name
    assert "/etc/passwd" in beside(good, "images", json.dumps(report).encode())
    assert {index for _, index in asked} == {0, 1, 2, 5}
