"""What runs have in common and where they differ, as plain data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jaxinv.reports.side_by_side.cases import Shown
from jaxinv.reports.side_by_side.reading import Run, look_up

# Settings that the facts of every case say already, under one name.
_SAID = ("attack", "attacks", "target", "model", "data", "defense", "defenses")


def compare(runs: Sequence[Run]) -> dict[str, Any]:
    """What `compare.json` holds, ready for JSON.

    Args:
      runs: two or more, of `read_reports`.
    """
    told = [_facts(run) for run in runs]
    names = list(dict.fromkeys(name for facts in told for name in facts))
    values = {name: [facts.get(name) for facts in told] for name in names}
    same = {name: _common(runs, row) for name, row in values.items()}
    return {
        "runs": [
            {
                "label": run.label,
                "folder": str(run.folder),
                "case": run.report["case"],
                "verdict": {
                    key: run.report["verdict"][key]
                    for key in ("level", "headline", "details")
                },
                "command": run.report["command"],
            }
            for run in runs
        ],
        "different": {n: row for n, row in values.items() if same[n] is None},
        "same": {name: value for name, value in same.items() if value is not None},
        "numbers": _numbers(runs),
        "entries": _entries(runs),
    }


def _common(runs: Sequence[Run], values: Sequence[str | None]) -> str | None:
    """The value of all runs, or None where they differ.

    Runs of a case that has no such setting at all do not count.
    """
    pairs = list(zip((run.report["case"] for run in runs), values, strict=True))
    cases = {case for case, value in pairs if value is not None}
    found = {value for case, value in pairs if case in cases}
    return found.pop() if len(found) == 1 else None


def _facts(run: Run) -> dict[str, str]:
    """How a run was made: name and value, both for people."""
    r = run.report
    facts = {
        "case": r["case"],
        "attack": r["attack_title"] or r["attack"],
        "model": r[run.case.model],
        "defence": r["defense"] or "none",
        "data": r["dataset"]["name"],
        "attacker knows": ", ".join(r["knowledge"]),
        "stopped early": "yes" if r["interrupted"] else "no",
    }
    settings = {k: v for k, v in r["settings"].items() if k not in _SAID}
    facts |= {k: _words(v) for k, v in settings.items() if k not in facts}
    facts["device"] = r["device"]
    return facts | {f"version of {k}": _words(v) for k, v in r["versions"].items()}


def _numbers(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A table of results for every case there is."""
    cases = list(dict.fromkeys(run.report["case"] for run in runs))
    return [
        {
            "case": case,
            "rows": {
                run.label: [
                    *(_value(run.report, shown) for shown in run.case.numbers),
                    run.report["compile_s"],
                    run.report["run_s"],
                ]
                for run in runs
                if run.report["case"] == case
            },
        }
        for case in cases
    ]


def _entries(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Example beside example, for runs of one case on the same data."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        key = run.report["case"], run.report["dataset"]["name"]
        groups.setdefault(key, []).append(run)
    found = []
    for (case, data), members in groups.items():
        if len(members) < 2:
            continue
        row = members[0].case
        by_key = [
            {entry[row.key]: entry for entry in run.report[row.entries]}
            for run in members
        ]
        # A key may be a text here and a number there.
        keys = sorted(
            {key for entries in by_key for key in entries},
            key=lambda key: (isinstance(key, str), key),
        )
        rows = []
        for key in keys:
            there = [entries.get(key) for entries in by_key]
            first = next(entry for entry in there if entry is not None)
            values = [
                [None if one is None else _value(one, shown) for one in there]
                for shown in row.compared
            ]
            about = None if row.about is None else first[row.about]
            rows.append({"key": key, "about": about, "values": values})
        labels = [run.label for run in members]
        found.append({"case": case, "data": data, "runs": labels, "rows": rows})
    return found


def _value(record: Any, shown: Shown) -> Any:
    value = look_up(record, shown.path)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value if shown.scale == 1 else value * shown.scale
    return value


def _words(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value)
