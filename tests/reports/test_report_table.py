"""Tables in a real browser: they sort and filter, and run nothing of others."""

import re
import time

import jinja2
import pytest
from browser import Page, in_chromium
from fakes import NASTY, example, fake_result

from jaxinv.reports.images import judge, render
from jaxinv.reports.page import render_page
from jaxinv.reports.table import Column
from jaxinv.reports.verdict import Verdict

HOSTILE = (
    NASTY,
    "<img src=x onerror=\"document.title='owned'\">",
    "</script><script>document.title='owned'</script>",
    "\"><svg/onload=document.title='owned'>",
    "{{ 7 * 7 }}{% raw %}",
)
COLUMNS = (
    Column("name"),
    Column("PSNR, dB", "number", 1),
    Column("count", "number"),
    Column("share", "number"),
)
ROWS = [
    ("b 10", 3.04, 7, 1e-5),
    ("b 9", None, 70000, 2.0),
    ("a", -12.0, 8, None),
    ("C", 100.0, 9, float("1e9")),
    *((name, 5.0 + i, i, 0.5) for i, name in enumerate(HOSTILE)),
]


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A page of its own that shows one table."""
    text = """{% extends "shell.html.j2" %}{% from "table.html.j2" import listing %}
{% block content %}<h1>x</h1>{{ listing("by", caption, columns, rows) }}
{% endblock %}"""
    loaders = [
        jinja2.DictLoader({"one.html.j2": text}),
        jinja2.PackageLoader("jaxinv", "reports"),
    ]
    both = jinja2.ChoiceLoader(loaders)
    monkeypatch.setattr(jinja2, "PackageLoader", lambda *_: both)

    def make(rows, columns=COLUMNS):
        verdict = Verdict("none", "Untouched.", ())
        context = {"caption": "By name.", "columns": columns, "rows": rows}
        return render_page("one.html.j2", verdict=verdict, **context)

    return make


def firsts(dom):
    """What the rows begin with, from top to bottom, those hidden left out."""
    body = dom.partition("<tbody>")[2].partition("</tbody>")[0]
    rows = re.findall(r"<tr( hidden=\"\")?>(.*?)</tr>", body, re.S)
    cells = [
        re.search(r"<bdi>(.*?)</bdi>", row, re.S) for gone, row in rows if not gone
    ]
    return [cell[1] for cell in cells if cell]


def title(dom):
    return re.search(r"<title>(.*?)</title>", dom, re.S)[1]


def pressed(column, times):
    return (
        f"const b = document.querySelectorAll('thead button')[{column}];"
        f"for (let i = 0; i < {times}; i++) b.click();"
    )


def test_columns_show_their_values():
    assert [COLUMNS[1].show(v) for v in (3.04, None, "odd")] == ["3.0", "n/a", "odd"]
    assert [COLUMNS[2].show(v) for v in (70000, True)] == ["70000", "yes"]
    assert [COLUMNS[3].show(v) for v in (2.5123e-7, 0.5)] == ["2.51e-07", "0.5"]
    assert [COLUMNS[0].show(v) for v in ("x", 1.5, False)] == ["x", "1.5", "no"]


def test_without_scripts_the_table_is_whole(page):
    seen = Page(page(ROWS))
    assert seen.runs_nothing_of_others()
    assert seen.tags.count("tr") == 1 + len(ROWS)
    assert "button" not in seen.tags and "input" not in seen.tags
    for name in HOSTILE:
        assert name in seen.words


@pytest.mark.parametrize(
    ("column", "times", "first", "last", "sort"),
    [
        (1, 1, "a", "b 9", "ascending"),
        # Where there is no number the row stays last.
        (1, 2, "C", "b 9", "descending"),
        (2, 2, "b 9", "&lt;script", "descending"),
        (3, 1, "b 10", "a", "ascending"),
        (3, 2, "C", "a", "descending"),
        (0, 2, "C", '"&gt;', "descending"),
        (0, 3, "b 10", "{{ 7 * 7 }}", None),
    ],
)
def test_sorting(page, tmp_path, column, times, first, last, sort):
    dom = in_chromium(page(ROWS), tmp_path, pressed(column, times))
    names = firsts(dom)
    assert len(names) == len(ROWS)
    assert names[0] == first and names[-1].startswith(last)
    marked = re.findall(r'<th scope="col"[^>]*aria-sort="(\w+)"', dom)
    assert marked == ([sort] if sort else [])


def test_filtering_counts_and_names_in_numbers_order(page, tmp_path):
    driver = pressed(0, 1) + (
        "const box = document.querySelector('input[type=search]');"
        "box.value = ' B   1'; box.dispatchEvent(new Event('input'));"
    )
    rows = [(f"b {i}", i, i, i) for i in (10, 9, 1, 11, 2, 33)]
    dom = in_chromium(page(rows), tmp_path, driver)
    assert firsts(dom) == ["b 1", "b 10", "b 11"]
    assert ">3 of 6 rows</span>" in dom and "<label>Rows with<input" in dom


def test_a_phrase_is_looked_for_as_it_is(page, tmp_path):
    driver = (
        "const box = document.querySelector('input[type=search]');"
        "box.value = '\"b 1\" 11'; box.dispatchEvent(new Event('input'));"
    )
    rows = [(f"b {i}", 1, i, i) for i in (10, 9, 1, 11, 2, 33)]
    assert firsts(in_chromium(page(rows), tmp_path, driver)) == ["b 11"]


def test_few_rows_stay_as_they_are(page, tmp_path):
    dom = in_chromium(page(ROWS[:5]), tmp_path)
    assert "<button" not in dom and "<input" not in dom


def test_thousands_of_rows(page, tmp_path):
    rows = [(f"trial {i}", i * 7919 % 5000, i, i / 7) for i in range(5000)]
    started = time.monotonic()
    names = firsts(in_chromium(page(rows), tmp_path, pressed(1, 2)))
    assert time.monotonic() - started < 60
    wanted = sorted(range(5000), key=lambda i: -(i * 7919 % 5000))
    assert names == [f"trial {i}" for i in wanted]


def test_nothing_hostile_runs(tmp_path):
    """Names of classes, of the data, settings and the command, all at once."""
    names = [example(i, class_true=n, class_found=n) for i, n in enumerate(HOSTILE)]
    result = fake_result(names * 2, side=4)
    result.report["settings"] |= {name: name for name in HOSTILE}
    result.report["dataset"]["name"] = result.report["command"] = "".join(HOSTILE)
    text = render(result, judge(result.report))
    assert Page(text).runs_nothing_of_others()
    dom = in_chromium(text, tmp_path, pressed(7, 2))
    assert "owned" not in title(dom)
    assert dom.count("<script>") == 2
    assert len(re.findall(r'<th [^>]*aria-sort="descending"', dom)) == 1


def test_the_policy_refuses_what_it_does_not_name(page, tmp_path):
    """Were something not escaped after all, the browser would still not run it."""
    text = page(ROWS).replace("<h1>x</h1>", "<h1>x</h1>" + "".join(HOSTILE[1:4]))
    assert "owned" not in title(in_chromium(text, tmp_path))
    loose = re.sub(r'<meta http-equiv="Content[^>]*>', "", text)
    # The same page without the policy is owned: the test can tell.
    assert "owned" in title(in_chromium(loose, tmp_path))
