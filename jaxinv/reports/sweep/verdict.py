"""The verdict on a sweep: under which of its settings the attacks recover what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxinv.reports.images.verdict import LUCK, luck
from jaxinv.reports.sweep.measures import LEVELS, measure_of
from jaxinv.reports.verdict import Verdict, count


def strongest(report: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """By case and defence the line whose measure is highest in the mean."""
    measure = measure_of(report)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for line in report["lines"]:
        key = line["case"], line["defense"]
        if key not in found or measure.best(line) > measure.best(found[key]):
            found[key] = line
    return found


def levels(report: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """By case and defence how bad the worst of its lines is, by their means.

    A line whose pictures are no better than traces, yet single out more originals than
    luck does in as many lines (Bonferroni), is "identified".
    """
    lines, measure = report["lines"], measure_of(report)
    found: dict[tuple[str, str], str] = {}
    for line in lines:
        key = line["case"], line["defense"]
        level = measure.level(line)
        if level == "nothing" and line.get("identified"):
            by_luck = luck(line["identified"], line["examples"], line["chance"])
            level = "identified" if by_luck < LUCK / len(lines) else level
        found[key] = min(found.get(key, level), level, key=LEVELS.index)
    return found


def judge(report: Mapping[str, Any]) -> Verdict:
    """The verdict on a sweep, by `levels`."""
    found = levels(report)
    if not found:
        return Verdict("none", "No job was finished; there is nothing to judge.", ())
    details = list(_details(report, found))
    seen = sum(level in ("exact", "recognisable") for level in found.values())
    settings = count(len(found), "setting")
    worst = min(found.values(), key=LEVELS.index)
    says = measure_of(report).says
    if seen:
        of = "the one setting" if len(found) == 1 else f"{seen} of {settings}"
        headline = f"In {of} these attacks {says['seen']}."
    elif worst == "traces":
        headline = f"These attacks {says['traces']}, in none of {settings} more."
    elif worst == "identified":
        headline = f"These attacks {says['identified']}."
    else:
        headline = f"These attacks {says['nothing']} in {settings}."
    return Verdict(worst, headline, tuple(details))


def _details(report: Mapping[str, Any], found: Mapping[tuple[str, str], str]):
    if report["interrupted"]:
        yield (
            f"The sweep was stopped: {report['jobs_done']} of {report['jobs']} jobs "
            "are in here, and the same command goes on."
        )
    measure, cases = measure_of(report), {case for case, _ in found}
    for (case, defense), line in strongest(report).items():
        level = found[case, defense]
        if level in ("exact", "recognisable") and len(found) <= 8:
            where = f"{case}, " if len(cases) > 1 else ""
            what = "Without a defence" if defense == "none" else f"Under {defense}"
            yield (
                f"{where}{what[0].lower() if where else what[0]}{what[1:]}: "
                f"{measure.phrase.format(measure.best(line))} by {line['attack']}, "
                f"{line['attacker']}."
            )
