"""The verdict on a sweep: under which of its settings the attacks recover what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxinv.reports.images.verdict import LUCK, luck, rate
from jaxinv.reports.verdict import Verdict, count

_LEVELS = ("exact", "recognisable", "traces", "identified", "nothing")
_WORDS = {
    "exact": "practically exact",
    "recognisable": "recognisable",
    "traces": "partly recovered",
    "identified": "singled out only",
    "nothing": "little or nothing",
}


def strongest(report: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """By case and defence the line of the highest mean PSNR."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for line in report["lines"]:
        key = line["case"], line["defense"]
        if key not in found or _psnr(line) > _psnr(found[key]):
            found[key] = line
    return found


def levels(report: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """By case and defence how bad the worst of its lines is, by their means.

    A line whose pictures are no better than traces, yet single out more originals than
    luck does in as many lines (Bonferroni), is "identified".
    """
    lines = report["lines"]
    found: dict[tuple[str, str], str] = {}
    for line in lines:
        key = line["case"], line["defense"]
        level = rate(line)
        if level == "nothing" and line["identified"]:
            by_luck = luck(line["identified"], line["examples"], line["chance"])
            level = "identified" if by_luck < LUCK / len(lines) else level
        found[key] = min(found.get(key, level), level, key=_LEVELS.index)
    return found


def words(level: str) -> str:
    """A level as a person would say it."""
    return _WORDS[level]


def judge(report: Mapping[str, Any]) -> Verdict:
    """The verdict on a sweep, by `levels`."""
    found = levels(report)
    if not found:
        return Verdict("none", "No job was finished; there is nothing to judge.", ())
    details = list(_details(report, found))
    seen = sum(level in ("exact", "recognisable") for level in found.values())
    settings = count(len(found), "setting")
    worst = min(found.values(), key=_LEVELS.index)
    if seen:
        of = "the one setting" if len(found) == 1 else f"{seen} of {settings}"
        headline = f"In {of} these attacks recover images that a person recognises."
    elif worst == "traces":
        headline = f"These attacks recover images in part, in none of {settings} more."
    elif worst == "identified":
        headline = (
            "These attacks recover nothing a person recognises, but enough to single "
            "out the originals."
        )
    else:
        headline = f"These attacks recover little or nothing in {settings}."
    return Verdict(worst, headline, tuple(details))


def _details(report: Mapping[str, Any], found: Mapping[tuple[str, str], str]):
    if report["interrupted"]:
        yield (
            f"The sweep was stopped: {report['jobs_done']} of {report['jobs']} jobs "
            "are in here, and the same command goes on."
        )
    cases = {case for case, _ in found}
    for (case, defense), line in strongest(report).items():
        level = found[case, defense]
        if level in ("exact", "recognisable") and len(found) <= 8:
            where = f"{case}, " if len(cases) > 1 else ""
            what = "Without a defence" if defense == "none" else f"Under {defense}"
            yield (
                f"{where}{what[0].lower() if where else what[0]}{what[1:]}: "
                f"{line['psnr']:.1f} dB by {line['attack']}, {line['attacker']}."
            )


def _psnr(line: Mapping[str, Any]) -> float:
    return float("-inf") if line["psnr"] is None else line["psnr"]
