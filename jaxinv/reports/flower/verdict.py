"""The verdict on a federation: by what clients found, who alone know the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxinv.reports import images
from jaxinv.reports.verdict import Verdict, count, were


def examples_of(reply: Mapping[str, Any]) -> list[dict[str, float | None]]:
    """PSNR and SSIM of each example of a reply; none where nobody judged it."""
    psnr, ssim = reply.get("psnr") or [], reply.get("ssim") or []
    return [{"psnr": p, "ssim": s} for p, s in zip(psnr, ssim, strict=True)]


def judge(report: Mapping[str, Any]) -> Verdict:
    """The verdict on a report, as on images where any were judged."""
    replies, summary = report["replies"], report["summary"]
    if not replies:
        return Verdict("none", "No reply was audited; there is nothing to judge.", ())
    if not summary["examples"]:
        headline = (
            f"{count(len(replies), 'reply').replace('replys', 'replies')} "
            f"{were(len(replies))} audited, and nobody held what came back against "
            "the truth."
        )
        honest = (
            "Scores say how well a guess explains its update, which is what an "
            "attacker can tell. A client that runs audit_mod can judge its own."
        )
        return Verdict("none", headline, (honest, *_details(report)))
    known = [r for r in replies if r.get("psnr") and r.get("identified") is not None]
    chances = [r["chance"] for r in known if r.get("chance") is not None]
    hits = sum(round(r["identified"] * len(r["psnr"])) for r in known)
    examples = [
        # Only their number counts, so the first of them stand for those singled out.
        {**example, "identified": number < hits}
        for number, example in enumerate(e for r in replies for e in examples_of(r))
    ]
    whole = len(known) == sum(bool(r.get("psnr")) for r in replies)
    chance = max(chances) if whole and len(chances) == len(known) else None
    found = images.judge(
        {
            "examples": examples,
            "summary": {"chance": chance},
            "knowledge": report["knowledge"],
        }
    )
    return found._replace(details=(*found.details, *_details(report)))


def _details(report: Mapping[str, Any]) -> list[str]:
    summary, found = report["summary"], []
    if summary["examples"]:
        seen = [r for r in report["rounds"] if r["exact"] + r["recognisable"]]
        found.append(
            f"In {len(seen)} of {count(len(report['rounds']), 'round')} at least one "
            "image came back so that a person would recognise it. The truth is what "
            "each client says of its own data; the server cannot check it."
        )
    kept = summary["refused"]
    if kept:
        found.append(
            f"{kept} of {summary['replies']} updates {were(kept)} kept back by "
            "their clients for what the audit found; their images count here too."
        )
    if summary["failed"]:
        found.append(
            f"{count(summary['failed'], 'audit')} failed; the table has the reasons."
        )
    return found
