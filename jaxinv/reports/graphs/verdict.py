"""The verdict on recovered graphs: what an audit's numbers mean, in plain language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from jaxinv.reports.verdict import Verdict, count, were

RATINGS = {
    "proved": "exact, no other found",
    "exact": "exact, {number} fit",
    "alone": "exact, others not ruled out",
    "among": "among {number} that fit",
    "wrong unique": "wrong, called unique",
    "wrong": "wrong",
    "gave up": "gave up",
}
"""What one recovered graph can be called. What fits has the client's gradient."""


def rate(entry: Mapping[str, Any]) -> str:
    """The key of `RATINGS` for one graph."""
    if entry["certificate"] == "gave up":
        return "gave up"
    if entry["exact"]:
        if entry["certificate"] == "unique":
            return "proved"
        return "exact" if entry["class_size"] > 1 else "alone"
    if entry["wrong_unique"]:
        return "wrong unique"
    return "among" if entry["in_class"] else "wrong"


def rating(entry: Mapping[str, Any]) -> str:
    """What one recovered graph is called."""
    # A search that was cut short may have missed some.
    number = f"{'' if entry['complete'] else 'at least '}{entry['class_size']}"
    return RATINGS[rate(entry)].format(number=number)


def judge(report: Mapping[str, Any]) -> Verdict:
    """The verdict on a report, by `rate`."""
    s, unit = report["summary"], report["unit"]
    n = s["graphs"]
    if not n:
        return Verdict(
            "none", f"No {unit} was finished; there is nothing to judge.", ()
        )
    of = f"of {count(n, unit)}"
    if s["exact"]:
        level = "exact"
        each = f"from one {sent(report)}"
        each = each if s["exact"] == 1 else f"each {each}"
        headline = (
            f"{s['exact']} {of} {were(s['exact'])} recovered exactly, {each}; "
            f"{_proved(s, unit)}."
        )
    elif s["in_class"]:
        level = "traces"
        headline = (
            f"{s['in_class']} {of} {were(s['in_class'])} narrowed down to a few that "
            "fit; none was picked exactly."
        )
    elif s["gave_up"] == n:
        level = "nothing"
        every = f"the {unit}" if n == 1 else f"all {n} {unit}s"
        headline = f"This attack gave up on {every} and recovered nothing."
    else:
        level = "nothing"
        headline = f"This attack recovered none {of}."
    return Verdict(level, headline, tuple(_details(report)))


def sent(report: Mapping[str, Any]) -> str:
    """What a client sent."""
    return "update" if "local_training" in report["knowledge"] else "gradient"


def _proved(s: Mapping[str, Any], unit: str) -> str:
    none = f"no other {unit} of the sizes looked at fits"
    if s["exact_unique"] == s["exact"]:
        every = "it is" if s["exact"] == 1 else "all are"
        return f"{every} certified: {none}"
    if not s["exact_unique"]:
        return f"of none is it certain, for other {unit}s fit, or were not ruled out"
    return f"{s['exact_unique']} with a certificate that {none}"


def _details(report: Mapping[str, Any]) -> list[str]:
    s, unit, found = report["summary"], report["unit"], []
    one = sent(report)
    n, ratings = s["graphs"], Counter(rate(entry) for entry in report["graphs"])
    if s["wrong_unique"]:
        found.append(
            f"{s['wrong_unique']} of {count(n, unit)} {were(s['wrong_unique'])} called "
            "unique and is not the client's: a defect of the attack, please report it."
        )
    if s["controls_solved"]:
        found.append(
            f"The negative control failed: of {count(s['controls'], one)} of "
            f"another model {s['controls_solved']} gave a graph. Do not trust the rest."
        )
    elif s["controls"]:
        found.append(
            f"Negative control passed: {count(s['controls'], one)} of another "
            f"model, attacked with this one's parameters, gave no {unit}."
        )
    else:
        found.append("No negative control was run.")
    if report["interrupted"]:
        found.append(
            f"The audit was stopped early: {unit}s or controls not begun are missing."
        )
    if ratings["among"]:
        found.append(
            f"For {ratings['among']} of {count(n, unit)} the truth is among several "
            f"that have this {one}; the attack picked another as more plausible."
        )
    stages = Counter(
        entry["stage"] for entry in report["graphs"] if rate(entry) == "gave up"
    )
    for stage, times in stages.most_common():
        if stage == "error":
            found.append(
                f"On {times} of {count(n, unit)} the attack broke off with an error, "
                "which the gallery quotes: please report it."
            )
            continue
        found.append(f"On {times} of {count(n, unit)} it gave up at the {stage}.")
    if report["settings"]["task"] == "node":
        found.append(
            f"The classes of all its nodes came with {s['labels_right']} of "
            f"{count(n, unit)}, but for nodes that look alike."
        )
    if "chemistry" in report["knowledge"]:
        found.append(
            "The attacker was told that these are molecules: what chemistry rules out "
            "does not count as fitting."
        )
    return found
