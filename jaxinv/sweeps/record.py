"""The record of a sweep: its rows by line, ready for JSON."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jaxinv.audits.facts import number, versions
from jaxinv.sweeps.spec import Sweep
from jaxinv.sweeps.sweep import SweepResult

_LINE = ("case", "target", "defense", "attack", "attacker", "options")
_WITHOUT = ("scores", "statuses")

PICTURES = 32
"""Examples whose pictures the record shows."""


class Swept(NamedTuple):
    """Everything that a sweep's report shows."""

    report: dict[str, Any]
    """What `report.json` holds."""
    rows: list[dict[str, Any]]
    """One for each example, without what was recovered; see `jaxinv.sweeps.kinds`."""
    pictures: list[dict[str, Any]]
    """Of images: rows with the pictures, up to `PICTURES`; for each case and defence
    the first examples under the strongest attack."""


def record(result: SweepResult, spec: Sweep, name: str) -> Swept:
    """The record of a sweep, finished or not.

    Args:
      result: of `sweep`.
      spec: what was swept.
      name: of the file that said so, for the command.
    """
    without = (*_WITHOUT, *spec.kind.pictured)
    rows = result.rows([n for n in result.columns if n not in without]).to_pylist()
    report = _report(result, spec, name, rows)
    images = spec.pictures and spec.audit == "images"
    jobs = _shown(report["lines"], rows) if images else []
    pictures = result.rows(jobs=jobs).to_pylist() if jobs else []
    pictures.sort(key=lambda row: jobs.index(row["job"]))
    return Swept(report, rows, pictures[:PICTURES])


def _report(
    result: SweepResult, spec: Sweep, name: str, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    lines: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        lines.setdefault(tuple(row[part] for part in _LINE), []).append(row)
    attacks = list(dict.fromkeys(key[3] for key in lines))
    known = spec.kind.attacks
    varied = {
        attack: _varied([json.loads(key[-1]) for key in lines if key[3] == attack])
        for attack in attacks
    }
    return {
        "case": f"sweep of {spec.audit}",
        "audit": spec.audit,
        "unit": spec.kind.unit,
        "attack": ", ".join(attacks),
        "attack_title": ", ".join(known[name].title for name in attacks),
        "attack_paper": "; ".join(known[name].paper for name in attacks),
        "target": ", ".join(dict.fromkeys(str(key[1]) for key in lines)),
        "defense": ", ".join(spec.defenses),
        "knowledge": spec.kind.known(spec.points),
        "withheld": [],
        "lines": [
            _line(key, found, varied[key[3]]) | spec.kind.line(found, result.sizes)
            for key, found in lines.items()
        ],
        "jobs": result.jobs,
        "jobs_done": len({row["job"] for row in rows}),
        "num_examples": len(rows),
        "seeds": list(spec.seeds),
        "device": str(jax.devices()[0].device_kind),
        "devices": jax.device_count(),
        "versions": versions(),
        "compile_s": number(result.compile_s),
        "run_s": number(result.seconds),
        "restart_iterations": result.restart_iterations,
        "dataset": {"name": "; ".join(result.sizes)},
        "command": shlex.join(
            ["jaxinv", "sweep", name, "--out", result.folder.as_posix()]
        ),
        "settings": {
            "audit": spec.audit,
            "cases": len(spec.cases),
            "attacks": len(spec.attacks),
            "defenses": list(spec.defenses),
            "seeds": list(spec.seeds),
            "points": len(spec.points),
            "checkpoint_s": spec.checkpoint_s,
        },
        "spec": spec.settings(),
        "notes": list(result.notes),
        "interrupted": not result.finished,
    }


def _varied(options: Sequence[dict[str, Any]]) -> list[str]:
    """Names of options that are not the same in all lines of an attack."""
    names = dict.fromkeys(name for one in options for name in one)
    return [n for n in names if len({json.dumps(one.get(n)) for one in options}) > 1]


def _line(
    key: tuple, rows: Sequence[dict[str, Any]], varied: Sequence[str]
) -> dict[str, Any]:
    options = json.loads(key[-1])
    chosen = [f"{n}={options[n]}" for n in varied if n in options]
    case, _, defense, attack, attacker, _ = key
    statuses = Counter(row["status"] for row in rows)
    return {
        **dict(zip(_LINE, key, strict=True)),
        "name": ", ".join([case, defense, attack, attacker, *chosen]),
        "options": options,
        "varied": chosen,
        "examples": len(rows),
        "seeds": len({row["seed"] for row in rows}),
        "statuses": dict(sorted(statuses.items())),
    }


def _shown(
    lines: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]
) -> list[int]:
    """Jobs whose pictures are shown: the first of each setting's strongest line."""
    best: dict[tuple, dict[str, Any]] = {}
    for line in lines:
        key = line["case"], line["defense"]
        if line["psnr"] is None:
            continue
        if key not in best or line["psnr"] > best[key]["psnr"]:
            best[key] = line
    each = max(1, PICTURES // max(1, len(best)))
    found: list[int] = []
    for line in list(best.values())[:PICTURES]:
        wanted = [
            json.dumps(line[p], sort_keys=True) if p == "options" else line[p]
            for p in _LINE
        ]
        jobs = [row["job"] for row in rows if [row[p] for p in _LINE] == wanted]
        found += list(dict.fromkeys(jobs))[:each]
    return found
