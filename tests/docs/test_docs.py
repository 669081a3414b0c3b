"""The documentation holds: its Python runs, its commands parse, its names exist."""

import importlib
import tomllib

import pages
import pytest

from jaxinv import attacks, cli, defenses, models
from jaxinv.attacks.labels import LABEL_RULES
from jaxinv.audits import CASES
from jaxinv.options import check_options

pytestmark = [
    pytest.mark.usefixtures("compiled_quickly"),
    pytest.mark.skipif(not pages.PAGES, reason="no docs beside the tests"),
]

WITH_PYTHON = [p for p in pages.PAGES if any(x == "python" for x, _ in pages.fences(p))]


@pytest.fixture
def rows_as_before():
    """A page may add an attack to the table."""
    before = dict(attacks.ATTACKS)
    yield
    attacks.ATTACKS.clear()
    attacks.ATTACKS.update(before)


@pytest.mark.parametrize("page", WITH_PYTHON, ids=pages.name)
def test_python_runs(page, rows_as_before):
    """Blocks of a page share their names; those marked `py` are shown alone."""
    if "sweep" in page.stem:
        pytest.importorskip("pyarrow")
    names = {}
    for language, text in pages.fences(page):
        if language == "python":
            exec(compile(text, pages.name(page), "exec"), names)


def test_some_pages_have_python():
    assert len(WITH_PYTHON) >= 6


@pytest.mark.parametrize("page", pages.PAGES, ids=pages.name)
def test_commands_parse(page):
    for words in pages.commands(page):
        args = cli._parser().parse_args(cli._with_case(words))
        asked = getattr(args, "defense", None) or getattr(args, "compare", None) or ()
        for text in asked:
            for one in text.split("+"):
                defenses.asked(one)
        attack = getattr(args, "attack", None)
        if isinstance(attack, str) and attack in attacks.ATTACKS:
            options = {n: v for who, n, v in args.set if who == "attack"}
            check_options(attack, attacks.ATTACKS[attack].make, options)


def test_some_pages_have_commands():
    assert sum(len(pages.commands(page)) for page in pages.PAGES) > 40


@pytest.mark.parametrize("page", pages.PAGES, ids=pages.name)
def test_links_lead_somewhere(page):
    for link in pages.links(page):
        # A link to a heading of the same page is left with nothing.
        assert not link or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", pages.PAGES, ids=pages.name)
def test_linked_objects_exist(page):
    for path in pages.objects(page):
        *parents, last = path.split(".")
        try:
            importlib.import_module(path)
        except ImportError:
            assert hasattr(importlib.import_module(".".join(parents)), last), path


@pytest.mark.parametrize(
    "rows",
    [attacks.ATTACKS, defenses.DEFENSES, LABEL_RULES, models.MODELS, CASES],
    ids=["attacks", "defences", "rules", "models", "cases"],
)
def test_every_row_is_documented(rows):
    words = set().union(*(pages.named_in_code(page) for page in pages.PAGES))
    assert set(rows) <= words, set(rows) - words


def test_every_page_is_in_the_navigation():
    text = (pages.ROOT / "mkdocs.yml").read_text("utf-8")
    assert [p for p in map(pages.name, pages.PAGES) if f" {p}\n" not in text] == []


def test_every_extra_is_documented():
    project = tomllib.loads((pages.ROOT / "pyproject.toml").read_text("utf-8"))
    extras = set(project["project"]["optional-dependencies"])
    assert extras <= pages.named_in_code(pages.DOCS / "index.md")
