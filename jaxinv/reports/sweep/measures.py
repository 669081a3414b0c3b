"""What the report of a sweep measures, by the audit that is swept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxinv.audits.defenses.record import CEILING
from jaxinv.reports.graphs import verdict as graphs
from jaxinv.reports.images import verdict as images
from jaxinv.reports.recommender import verdict as recommender
from jaxinv.reports.table import Column

LEVELS = ("exact", "recognisable", "traces", "identified", "nothing")
"""How bad a line can be, worst first."""


class Shown(NamedTuple):
    """An entry of a line or a row, and the column that shows it."""

    name: str
    column: Column
    scale: float = 1.0

    def of(self, entry: Mapping[str, Any]) -> Any:
        """Its value, scaled where it is a number."""
        value = entry.get(self.name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return value
        return value if self.scale == 1 else value * self.scale


class Measure(NamedTuple):
    """What one audit is measured by."""

    value: Shown
    """Of a line and of a row: what the strongest line has most of."""
    phrase: str
    """The value in words, for `str.format`."""
    about: str
    """What its mean is, in a sentence of the page."""
    of_line: tuple[Shown, ...]
    of_row: tuple[Shown, ...]
    level: Callable[[Mapping[str, Any]], str]
    """Of a line's means, one of `LEVELS`."""
    words: Mapping[str, str]
    """A level as a person would say it, of a setting."""
    says: Mapping[str, str]
    """What the attacks do, of the worst level, for the headline."""
    rating: Callable[[Mapping[str, Any]], str]
    """What one row is called."""
    secret: str
    """What the attacker is not told."""

    def best(self, line: Mapping[str, Any]) -> float:
        """For choosing the strongest; below everything where there is no value."""
        value = self.value.of(line)
        return float("-inf") if value is None else value

    def interval(self, line: Mapping[str, Any]) -> list[float] | None:
        """Of the value's mean, 95 %."""
        found = line[f"{self.value.name}_interval"]
        return None if found is None else [self.value.scale * end for end in found]


def _shown(name: str, title: str, digits: int | None = None, scale: float = 1.0):
    return Shown(name, Column(title, "number", digits), scale)


def _rated(entry: Mapping[str, Any]) -> str:
    """A user's, or the mean of users; explicit ratings have no F1 score."""
    there = dict(entry)
    if there.get("f1") is None:
        there.pop("f1", None)
    return recommender.rate(there)


def _graphs_of(line: Mapping[str, Any]) -> str:
    if line["exact"] == 1:
        return "exact"
    if line["exact"]:
        return "recognisable"
    return "traces" if line["in_class"] else "nothing"


_USERS = {
    "exact": "exact",
    "most": "recognisable",
    "closer": "traces",
    "nothing": "nothing",
}

_PSNR, _EXACT = _shown("psnr", "PSNR, dB", 2), _shown("exact", "exact, %", 1, 100)

_IMAGES = Measure(
    _PSNR,
    "{:.1f} dB",
    f"the mean PSNR over examples and seeds, where more than {CEILING:.0f} dB count as "
    "that",
    (
        _shown("psnr_best", "best", 2),
        _shown("ssim", "SSIM", 3),
        _shown("identified", "singled out", 0),
        _shown("labels", "labels right, %", 0, 100),
    ),
    (_PSNR, _shown("ssim", "SSIM", 3), _shown("rank", "rank", 0)),
    images.rate,
    {
        "exact": "practically exact",
        "recognisable": "recognisable",
        "traces": "partly recovered",
        "identified": "singled out only",
        "nothing": "little or nothing",
    },
    {
        "seen": "recover images that a person recognises",
        "traces": "recover images in part",
        "identified": "recover nothing a person recognises, but enough to single out "
        "the originals",
        "nothing": "recover little or nothing",
    },
    lambda row: images.RATINGS[images.rate(row)],
    "the images",
)

_RECOMMENDER = Measure(
    _EXACT,
    "{:.0f} % of the ratings exact",
    "the mean share of a user's ratings that are exact once put on the scale's grid",
    (
        _shown("whole", "users all exact", 0),
        _shown("mae", "mean error"),
        _shown("guess_exact", "a guess's exact, %", 1, 100),
        _shown("guess_mae", "a guess's mean error"),
        _shown("f1", "F1 of interactions", 2),
        _shown("items_f1", "F1 of items", 2),
    ),
    (
        _EXACT,
        _shown("num_ratings", "ratings", 0),
        _shown("mae", "mean error"),
        _shown("guess_mae", "a guess's"),
    ),
    lambda line: _USERS[_rated(line)],
    {
        "exact": "every rating exact",
        "recognisable": "most ratings exact",
        "traces": "closer than guessing",
        "nothing": "little or nothing",
    },
    {
        "seen": "recover most ratings exactly",
        "traces": "recover ratings better than guessing",
        "nothing": "recover little or nothing",
    },
    lambda row: recommender.RATINGS[_rated(row)].format(rating="rating"),
    "the ratings, and the users' embeddings unless granted",
)

_GRAPHS = Measure(
    _EXACT,
    "{:.0f} % of the graphs exact",
    "the share of graphs that were recovered exactly",
    (
        _shown("unique", "called unique", 0),
        _shown("wrong_unique", "unique, but wrong", 0),
        _shown("in_class", "among those that fit, %", 1, 100),
        _shown("gsm0", "GSM-0", 3),
        _shown("gsm1", "GSM-1", 3),
        _shown("gsm2", "GSM-2", 3),
    ),
    (
        Shown("exact", Column("exact")),
        Shown("name", Column("name")),
        _shown("num_nodes", "nodes", 0),
        _shown("class_size", "that fit", 0),
        _shown("gsm1", "GSM-1", 3),
    ),
    _graphs_of,
    {
        "exact": "every graph exact",
        "recognisable": "some graphs exact",
        "traces": "narrowed down",
        "nothing": "little or nothing",
    },
    {
        "seen": "recover graphs exactly",
        "traces": "narrow graphs down to a few that fit",
        "nothing": "recover no graph",
    },
    lambda row: graphs.rating({**row, "certificate": row["status"]}),
    "the graphs: nodes, edges, labels",
)

MEASURES: dict[str, Measure] = {
    "images": _IMAGES,
    "recommender": _RECOMMENDER,
    "molecules": _GRAPHS,
    "citations": _GRAPHS,
}
"""By the audit that is swept."""


def measure_of(report: Mapping[str, Any]) -> Measure:
    """Of a sweep's record."""
    return MEASURES[report["audit"]]
