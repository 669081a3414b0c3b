"""The report of a federation's audits: what both sides wrote down, put together."""

from __future__ import annotations

import itertools
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxinv.flower.journal import SERVER
from jaxinv.flower.reading import Journal, read_journals
from jaxinv.flower.record import FAILED, NOT_SENT
from jaxinv.reports import flower
from jaxinv.reports.flower import examples_of
from jaxinv.reports.folder import check_folder
from jaxinv.reports.images.verdict import RATINGS, rate


def write_report(
    out: str | os.PathLike[str], *, run: int | None = None, command: str = "flwr run"
) -> Path:
    """Writes `report.html` and `report.json` of a run that was audited.

    Call it when the run has ended, or broken off. It takes what is in the folder: the
    server's journal, clients' journals that were written or brought there, or both.

    Args:
      out: the folder that `AuditedStrategy` and `audit_mod` were given.
      run: Flower's number of the run; None takes the one that was written to last.
      command: that repeats the run, for the reader.

    Returns:
      The path of `report.html`.

    Raises:
      InputError: there is no journal, or one that is not what an audit writes.
      OSError: something could not be read or written.
    """
    folder = check_folder(out)
    number, journals = read_journals(folder, run)
    return flower.write_report(record(number, journals, command), folder)


def record(run: int, journals: Sequence[Journal], command: str) -> dict[str, Any]:
    """What `report.json` holds but for the verdict.

    Args:
      run: Flower's number of it.
      journals: of one run, the server's first.
      command: that repeats it.
    """
    replies = _replies(journals)
    settings: dict[str, Any] = {}
    for journal in journals:
        for name, value in journal.facts["settings"].items():
            if settings.setdefault(name, value) != value:
                settings[f"{name}, on clients"] = value
    facts = [journal.facts for journal in journals]
    sides = [reply[side] for reply in replies for side in ("server", "client")]
    compiling = sum(side["compile_s"] or 0 for side in sides if side)
    return {
        "case": "flower",
        "run": str(run),
        "attack": facts[0]["attack"],
        "attack_title": None,
        "model": f"inputs {settings.get('inputs')}, {settings.get('classes')} classes",
        "defense": None,
        "dataset": {"name": "the clients' own"},
        "knowledge": sorted({known for one in facts for known in one["knowledge"]}),
        "settings": settings,
        "versions": facts[0]["versions"],
        "device": ", ".join(dict.fromkeys(one["device"] for one in facts)),
        "command": command,
        "compile_s": compiling,
        "run_s": sum(side["seconds"] or 0 for side in sides if side) - compiling,
        "interrupted": False,
        "clients": _in_order(reply["node"] for reply in replies),
        "replies": replies,
        "rounds": [
            {"round": number, **_summary(list(group))}
            for number, group in itertools.groupby(replies, lambda r: r["round"])
        ],
        "summary": _summary(replies),
    }


def _replies(journals: Sequence[Journal]) -> list[dict[str, Any]]:
    """One for each client and round, with what either side made of it, or None."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for journal in journals:
        side = "server" if journal.who == SERVER else "client"
        for row in journal.rows:
            key = row["round"], row["node"]
            empty = {"round": key[0], "node": key[1], "server": None, "client": None}
            found.setdefault(key, empty)[side] = {
                name: row[name]
                for name in ("status", "score", "seconds", "compile_s", "reason")
            }
            if side == "client":
                judged = ("num_examples", "psnr", "ssim", "identified", "chance")
                found[key] |= {name: row[name] for name in (*judged, "refused")}
            else:
                found[key].setdefault("num_examples", row["num_examples"])
    return [found[key] for key in sorted(found, key=lambda k: (k[0], _place(k[1])))]


def _in_order(nodes: Iterable[str]) -> list[str]:
    return sorted(set(nodes), key=_place)


def _place(node: str) -> tuple[int, str]:
    # As numbers are ordered, whatever a journal says.
    return len(node), node


def _summary(replies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of a round, or of all."""
    examples = [one for reply in replies for one in examples_of(reply)]
    ratings = [rate(example) for example in examples]
    psnr = [e["psnr"] for e in examples if e["psnr"] is not None]
    sides = [[r[side] for r in replies if r[side]] for side in ("server", "client")]
    scores = [side["score"] for side in sides[0] or sides[1]]
    said = [side["status"] for both in sides for side in both]
    return {
        "replies": len(replies),
        "clients": len({reply["node"] for reply in replies}),
        "examples": len(examples),
        **{name: ratings.count(name) for name in RATINGS},
        "psnr_best": max(psnr, default=None),
        "psnr_median": statistics.median(psnr) if psnr else None,
        "score_best": min((s for s in scores if s is not None), default=None),
        "not_sent": said.count(NOT_SENT),
        "refused": sum(bool(reply.get("refused")) for reply in replies),
        "failed": said.count(FAILED),
    }
