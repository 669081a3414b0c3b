"""The verdict on an update: by the truth where it is there, else by the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxinv.reports import images
from jaxinv.reports.verdict import Verdict, count

AGREE = {"strong": 25.0, "weak": 15.0}
"""dB to which starts must agree. Two pictures that have nothing in common but to be
pictures lie at 5 to 12 dB; but starts also agree on the wrong picture that a prior or a
noisy update leads all of them to."""

EXPLAINS = {"strong": 0.02, "weak": 0.5}
"""Most of what a grey picture, and the same attack on a wrong update, leave unexplained
that a result may leave. Those of "strong" were chosen so that at most 5 % of its claims
are wrong, on audits whose truth is known: bench/UPDATES.md, record
bench/results/update-evidence-cpu.json. Behind "weak" there was nothing more often than
something, so that it claims nothing."""

STRENGTHS = {
    "strong": "strong evidence",
    "weak": "weak evidence",
    "nothing": "no evidence",
}
"""What an attacker's own evidence can be called."""

_HEADLINES = {
    "strong": (
        "recognisable",
        "This update very likely gives {what} away: independent starts arrive at the "
        "same {pictures}.",
    ),
    "weak": (
        "traces",
        "This attack explains the update better than grey pictures do. That is weak "
        "evidence: it does not tell whether {what} came back.",
    ),
    "alone": (
        "traces",
        "One start explains this update better than grey pictures do; whether it "
        "found {what} needs the truth.",
    ),
    "nothing": (
        "nothing",
        "This attack found nothing in the update that speaks for having found {what}.",
    ),
}


def strength(report: Mapping[str, Any]) -> str:
    """A key of `STRENGTHS`, by `AGREE` and `EXPLAINS`."""
    evidence, control = report["evidence"], report.get("control")
    left, grey = evidence.get("unexplained"), evidence.get("unexplained_grey")
    if left is None or grey is None or evidence.get("status") == "DIVERGED":
        return "nothing"
    agreement = evidence.get("agreement")
    for name, least in AGREE.items():
        explains = left <= EXPLAINS[name] * grey
        alone = control is None or left <= EXPLAINS[name] * (
            control["unexplained"] or 0
        )
        agrees = agreement is None or agreement >= least
        if explains and alone and agrees:
            # One start has nobody to agree with.
            return "weak" if agreement is None else name
    return "nothing"


def judge(report: Mapping[str, Any]) -> Verdict:
    """The verdict on a report."""
    if report.get("truth"):
        found = images.judge(report)
        return found._replace(details=(*found.details, *_details(report)))
    n, name = report["num_examples"], strength(report)
    if name == "weak" and report["evidence"].get("agreement") is None:
        name = "alone"
    level, headline = _HEADLINES[name]
    what = "the client's image" if n == 1 else f"the client's {n} images"
    headline = headline.format(what=what, pictures="picture" if n == 1 else "pictures")
    honest = (
        "Nobody held these pictures against the truth, which is not known here: this "
        "is what an attacker can tell, who does not know it either."
    )
    return Verdict(level, headline, (honest, *_details(report)))


def _details(report: Mapping[str, Any]) -> list[str]:
    evidence, control = report["evidence"], report.get("control")
    found = []
    if report.get("interrupted"):
        found.append("The audit was stopped early; this is the best up to then.")
    left, grey = evidence.get("unexplained"), evidence.get("unexplained_grey")
    if left is not None and grey is not None:
        text = (
            f"The result leaves {_share(left)} of the update unexplained, grey "
            f"pictures with the same labels {_share(grey)}"
        )
        if control is not None and control.get("unexplained") is not None:
            text += (
                ", and the same attack on a wrong update of the same size "
                f"{_share(control['unexplained'])} of that"
            )
        found.append(f"{text}.")
    if evidence.get("agreement") is not None:
        found.append(
            f"The best half of {count(report['restarts'], 'start')} agree to "
            f"{evidence['agreement']:.1f} dB; from {AGREE['strong']:.0f} dB on they "
            "show the same, which can be the same wrong picture."
        )
    odd = [f for f in report["findings"] if f["verdict"] != "ok"]
    for finding in odd:
        found.append(f"{finding['verdict'].capitalize()}: {finding['line']}.")
    if report.get("compared") is None and any(
        row["paired_by"] == "order" for row in report["map"]
    ):
        found.append(
            "Some layers of the file were paired with the model's by the order of "
            "their names, and that was not checked against the model in PyTorch "
            "(--torch-model)."
        )
    return found


def _share(value: float) -> str:
    return f"{100 * value:.2g} %"
