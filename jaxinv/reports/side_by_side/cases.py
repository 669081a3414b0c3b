"""What is compared of each case's `report.json`; a case is a row here."""

from __future__ import annotations

from typing import NamedTuple

from jaxinv.reports.table import Column


class Shown(NamedTuple):
    """A number or word of a record, and the column that shows it."""

    path: str
    """Keys that lead to it, joined by points."""
    column: Column
    scale: float = 1.0
    """The number is multiplied by this: 100 for a share that is shown in %."""


class Case(NamedTuple):
    """One case."""

    model: str
    """Key of the model's name."""
    numbers: tuple[Shown, ...]
    """Of the whole run."""
    entries: str
    """Key of the list with an entry for each example, user, graph or defence."""
    unit: str
    """What such an entry is of."""
    key: str
    """What tells entries apart, and finds the same one in another run: a whole number
    or a text."""
    about: str | None
    """A text that names it for people, beside the key."""
    compared: tuple[Shown, ...]
    """Of each entry."""
    pictures: bool = False
    """Whether the run's folder has a picture for each entry's key."""


def _number(title: str, path: str, digits: int | None = None, scale: float = 1.0):
    return Shown(path, Column(title, "number", digits), scale)


def _text(title: str, path: str) -> Shown:
    return Shown(path, Column(title))


_GRAPHS = Case(
    model="model",
    numbers=(
        _number("graphs", "summary.graphs"),
        _number("exact", "summary.exact"),
        _number("exact and unique", "summary.exact_unique"),
        _number("truth among those that fit", "summary.in_class"),
        _number("gave up", "summary.gave_up"),
        _number("unique, but wrong", "summary.wrong_unique"),
        _number("controls solved", "summary.controls_solved"),
    ),
    entries="graphs",
    unit="graph",
    key="index",
    about="name",
    compared=(
        _text("certificate", "certificate"),
        _text("exact", "exact"),
        _number("GSM-1", "gsm1", 3),
    ),
)


def _sweep(*compared: Shown) -> Case:
    return Case(
        model="target",
        numbers=(
            _number("jobs", "jobs_done"),
            _number("examples", "num_examples"),
            _number("steps of all starts", "restart_iterations"),
        ),
        entries="lines",
        unit="line",
        key="name",
        about=None,
        compared=compared,
    )


_SWEEP_OF_GRAPHS = _sweep(
    _number("exact, %", "exact", 1, 100), _number("GSM-1", "gsm1", 3)
)

CASES: dict[str, Case] = {
    "images": Case(
        model="target",
        numbers=(
            _number("examples", "num_examples"),
            _number("median PSNR, dB", "summary.psnr_median", 1),
            _number("mean SSIM", "summary.ssim_mean", 3),
            _number("singled out, %", "summary.identified", 0, 100),
            _number("labels right, %", "summary.label_accuracy", 0, 100),
            _number("best by truth, median PSNR, dB", "summary.oracle_psnr_median", 1),
            _number("restarts diverged, %", "summary.diverged_share", 1, 100),
            _number("restart-iterations/s", "restart_iterations_per_s"),
        ),
        entries="examples",
        unit="example",
        key="index",
        about="class_true",
        compared=(
            _number("PSNR, dB", "psnr", 1),
            _number("SSIM", "ssim", 3),
            _text("singled out", "identified"),
        ),
        pictures=True,
    ),
    "recommender": Case(
        model="model",
        numbers=(
            _number("users", "summary.users"),
            _number("every one exact, % of users", "summary.exact_share", 0, 100),
            _number("mean error", "summary.mae_mean"),
            _number("guess's mean error", "summary.guess_mae_mean"),
            _number("gave up, %", "summary.gave_up_share", 0, 100),
        ),
        entries="users",
        unit="user",
        key="user",
        about=None,
        compared=(
            _number("exact, %", "exact", 0, 100),
            _number("error", "mae"),
            _text("status", "status"),
        ),
    ),
    "molecules": _GRAPHS,
    "citations": _GRAPHS,
    "defences": Case(
        model="target",
        numbers=(
            _number("examples", "num_examples"),
            _number("examples of the accuracy", "num_test"),
        ),
        entries="rows",
        unit="defence",
        key="defense",
        about=None,
        compared=(
            _number("strongest attack, dB", "strongest.psnr", 1),
            _number("accuracy, %", "accuracy", 1, 100),
        ),
    ),
    "update": Case(
        model="model",
        numbers=(
            _number("examples", "num_examples"),
            _number("unexplained, %", "evidence.unexplained", scale=100),
            _number("starts agree, dB", "evidence.agreement", 1),
            _number("restart-iterations/s", "restart_iterations_per_s"),
        ),
        entries="attackers",
        unit="attacker",
        key="name",
        about=None,
        compared=(
            _number("unexplained, %", "evidence.unexplained", scale=100),
            _number("starts agree, dB", "evidence.agreement", 1),
        ),
    ),
    "flower": Case(
        model="model",
        numbers=(
            _number("replies", "summary.replies"),
            _number("images judged", "summary.examples"),
            _number("practically exact", "summary.exact"),
            _number("recognisable", "summary.recognisable"),
            _number("median PSNR, dB", "summary.psnr_median", 1),
            _number("best score", "summary.score_best"),
            _number("kept back", "summary.refused"),
            _number("failed", "summary.failed"),
        ),
        entries="rounds",
        unit="round",
        key="round",
        about=None,
        compared=(
            _number("best PSNR, dB", "psnr_best", 1),
            _number("median PSNR, dB", "psnr_median", 1),
            _number("best score", "score_best"),
        ),
    ),
    "sweep of images": _sweep(
        _number("mean PSNR, dB", "psnr", 1), _number("singled out", "identified")
    ),
    "sweep of recommender": _sweep(
        _number("exact, %", "exact", 1, 100), _number("mean error", "mae")
    ),
    "sweep of molecules": _SWEEP_OF_GRAPHS,
    "sweep of citations": _SWEEP_OF_GRAPHS,
}
"""By what a record calls its case."""
