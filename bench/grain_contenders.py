"""What `bench.grain` runs on a gradient: GRAIN, and the baselines it is held against.

Baselines are told the number of nodes, those named `_edges` the edges as well; GRAIN
neither. None of them is told the label.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxinv.attacks.base import Attack, Status, iterate, restarts
from jaxinv.attacks.grain import LIMITS, grain
from jaxinv.attacks.graph_matching import graph_dlg, graph_tableak
from jaxinv.audits.graphs.clients import observed
from jaxinv.graph import Domain, Graph
from jaxinv.local_training import LocalTraining
from jaxinv.models.graph_networks.base import GraphModel
from jaxinv.observation import observe


class Outcome(NamedTuple):
    """What an attack says of one gradient, as rows of the bench have it."""

    status: str
    """GRAIN's certificate, or the name of a `Status`."""
    graph: Graph | None
    """The pick."""
    graphs: tuple[Graph, ...]
    """The pick and others with this gradient."""
    complete: bool
    """Whether those are known to be all."""
    distance: float
    """Of the pick's gradient from the client's, over the norm of that one."""
    stage: str
    reason: str
    seconds: dict[str, float]
    """By stage, compiling included."""
    counts: dict[str, Any]


Contender = Callable[[jax.Array, Any, Graph], Outcome]
"""`(key, update, truth) -> Outcome`; of the truth it takes what is granted."""


def grain_contender(
    model: GraphModel,
    params: Any,
    domain: Domain,
    *,
    seconds: float,
    local: LocalTraining | None,
) -> Contender:
    """GRAIN, which is told of the graphs what the domain says.

    Args:
      model: the network.
      params: its weights.
      domain: what is known of the graphs.
      seconds: at most for the search among graphs of one gradient.
      local: how the client trains, which the attacker knows; None is one gradient.
    """
    limits = LIMITS._replace(seconds=seconds)

    def contender(key: jax.Array, update: Any, truth: Graph) -> Outcome:
        seen = observed(model, params, update, local)
        found = grain(model, seen, domain=domain, limits=limits)
        return Outcome(
            found.certificate.value,
            found.graph,
            found.graphs,
            found.complete,
            found.distance,
            found.stage,
            found.reason,
            found.seconds,
            found.counts,
        )

    return contender


def _dlg(model: GraphModel, adjacency: str, num: int, steps: int) -> Attack:
    return restarts(graph_dlg(model, adjacency=adjacency, num_steps=steps), num)


def _tableak(model: GraphModel, adjacency: str, num: int, steps: int) -> Attack:
    # Its members are its restarts: the median is of them all.
    return graph_tableak(model, adjacency=adjacency, num_steps=steps, num_members=num)


BASELINES = {
    "graph_dlg": (_dlg, "relaxed"),
    "graph_dlg_edges": (_dlg, "known"),
    "graph_tableak": (_tableak, "relaxed"),
    "graph_tableak_edges": (_tableak, "known"),
}
"""By name: how it is built, and whether its edges are searched for."""


def baseline_contender(
    name: str, model: GraphModel, params: Any, *, num: int, steps: int
) -> Contender:
    """A baseline from several starts at once, with its published constants.

    Graphs of one size share a program.

    Args:
      name: a key of `BASELINES`.
      model: the network.
      params: its weights.
      num: starts; of TabLeak, members.
      steps: gradient evaluations of each.
    """
    build, adjacency = BASELINES[name]
    run = jax.jit(iterate(build(model, adjacency, num, steps), num_records=1))

    def contender(key: jax.Array, update: Any, truth: Graph) -> Outcome:
        granted: dict[str, Any] = {"num_nodes": truth.num_nodes}
        if adjacency == "known":
            granted["adjacency"] = truth.adjacency
        seen = observe(params, update, num_examples=1, spec=model.spec, **granted)
        start = time.perf_counter()
        found = jax.block_until_ready(run(key, seen))
        spent = time.perf_counter() - start
        guess = jax.device_get(found.batch)
        return Outcome(
            Status(int(found.status)).name,
            guess,
            (guess,),
            False,
            math.sqrt(float(found.score)),
            "done",
            "",
            {"search": spent},
            {"restarts": num, "steps": steps},
        )

    return contender
