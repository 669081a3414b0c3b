"""The pages of the documentation, and what of them can be checked."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def name(page):
    return page.relative_to(DOCS).as_posix()


def fences(page):
    """Language and text of every fenced block."""
    text = page.read_text("utf-8")
    return re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(page):
    """The arguments of every `jaxinv ...` line in a fence, without the program."""
    found = []
    for language, text in fences(page):
        if language not in ("sh", "console"):
            continue
        # Comments, variables in front, and what comes before and behind: srun, &.
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "jaxinv" in words:
                words = words[words.index("jaxinv") + 1 :]
                found.append(words[:-1] if words[-1:] == ["&"] else words)
    return found


def links(page):
    """Every link to something on this machine, without its anchor."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.S | re.M)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [one.split("#")[0] for one in targets if "://" not in one]


def named_in_code(page):
    """Words in backticks."""
    return set(re.findall(r"`([^`\n]+)`", page.read_text("utf-8")))


def objects(page):
    """Dotted names that are linked to the API."""
    text = page.read_text("utf-8")
    return {
        a or b
        for a, b in re.findall(r"\[`?(jaxinv[\w.]*)`?\]\[\]|\]\[(jaxinv[\w.]*)\]", text)
    }


def table(page, first):
    """Rows of the table whose first heading is `first`, cells without backticks."""
    lines = page.read_text("utf-8").splitlines()
    start = next(i for i, x in enumerate(lines) if x.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip(" `") for cell in line.strip("|").split("|")])
    return rows
