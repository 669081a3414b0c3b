"""What an exact attack on a graph can end in."""

from __future__ import annotations

import enum
import math
from typing import Any, NamedTuple

from jaxinv.graph import Graph


class Limits(NamedTuple):
    """Where the attack gives up."""

    candidates: int = 30_000_000
    """Neighbourhoods tested in one level."""
    nodes: int = 100
    """Of a graph."""
    class_nodes: int = 24
    """Of the graphs of a class, where the smallest one has fewer."""
    graphs: int = 128
    """Of a class that is listed."""
    seconds: float = 20.0
    """Of counting nodes and searching for graphs of them."""


LIMITS = Limits()


class Certificate(enum.Enum):
    """What the gradient is known to say."""

    UNIQUE = "unique"
    """One graph alone among those of up to `nodes_up_to` nodes that the domain allows,
    and none of twice as many beside it; but for the order of its nodes, for whole
    copies of it beside each other (a mean over nodes does not count them), and for
    which of several nodes of one type has which label. Where features do not exclude
    each other: among graphs whose nodes are all different."""
    AMBIGUOUS = "ambiguous"
    """Several graphs give this gradient, and no attack can tell them apart; or one was
    found, and it is not known whether it is the only one."""
    GAVE_UP = "gave up"
    """Not solved; see the stage and the reason."""


class GaveUp(Exception):  # noqa: N818 - an outcome, not an error
    """Raised inside the attack, caught by it: the stage ends here."""

    def __init__(self, stage: str, reason: str):
        super().__init__(reason)
        self.stage = stage
        self.reason = reason


class Recovered(NamedTuple):
    """What came of one gradient."""

    certificate: Certificate
    """What the result is worth."""
    graph: Graph | None
    """The pick: the class's most plausible member; None where it gave up."""
    graphs: tuple[Graph, ...]
    """The class, the pick first; every one has the client's gradient. Beside one of up
    to `nodes_up_to` nodes there may be one of twice as many."""
    complete: bool
    """Whether the class holds every graph of the sizes looked at whose types of nodes
    leave each its own trace in the gradient: where no unit of the readout tells some of
    them apart, as in regular graphs and a narrow readout, only their sum does."""
    nodes_up_to: int
    """The largest number of nodes that was looked at for other graphs."""
    distance: float
    """Of the pick's gradient from the client's, over the norm of that one."""
    stage: str
    """Where it ended: a key of `seconds`, or "done"."""
    reason: str
    """Why, in words; "" where solved."""
    seconds: dict[str, float]
    """By stage, in order."""
    counts: dict[str, Any]
    """Ranks, candidates and types by stage, for reports."""
    partial: Graph | None = None
    """Where it gave up, the nearest graph it met; its gradient is not the client's."""


def gave_up(
    stage: str,
    reason: str,
    *,
    seconds: dict[str, float] | None = None,
    counts: dict[str, Any] | None = None,
    partial: Graph | None = None,
) -> Recovered:
    """No graph, with the stage where it ended and why; fields as in `Recovered`."""
    return Recovered(
        certificate=Certificate.GAVE_UP,
        graph=None,
        graphs=(),
        complete=False,
        nodes_up_to=0,
        distance=math.inf,
        stage=stage,
        reason=reason,
        seconds=seconds or {},
        counts=counts or {},
        partial=partial,
    )
