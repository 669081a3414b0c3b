"""A row of `bench.grain`: one gradient attacked, timed and judged."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from bench.grain_contenders import Contender, Outcome
from jaxinv.graph import Graph, real
from jaxinv.isomorphism import colours, isomorphic
from jaxinv.metrics import judge_graph
from jaxinv.models.graph_networks.base import GraphModel


def attacked(
    contender: Contender, index: int, update: Any, truth: Graph, model: GraphModel
) -> dict[str, Any]:
    """One gradient attacked, and what came of it judged."""
    key = jax.random.fold_in(jax.random.key(1), index)
    with compiling() as spent:
        start = time.perf_counter()
        found = contender(key, update, truth)
        seconds = time.perf_counter() - start
    compiled = sum(end - start for start, end in spent)
    return {
        "num_nodes": truth.num_nodes,
        "status": found.status,
        "in_class": any(isomorphic(truth, other) for other in found.graphs),
        **judge_graph(truth, found.graph, model.spec)._asdict(),
        "labels": _labels_right(truth, found.graph, model.depth),
        "seconds": round(max(seconds - compiled, 0.0), 4),
        "compile_seconds": round(compiled, 4),
        "stage": found.stage,
        "reason": found.reason,
        "distance": found.distance if np.isfinite(found.distance) else None,
        "class_size": len(found.graphs),
        "complete": found.complete,
        "seconds_by_stage": {k: round(v, 4) for k, v in found.seconds.items()},
        "counts": found.counts,
        "digest": _digest(found),
    }


@contextmanager
def compiling() -> Iterator[list[tuple[float, float]]]:
    """When JAX traces and compiles: from and to, none of them within another."""
    spent: list[tuple[float, float]] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            end = time.perf_counter()
            start = end - duration_secs
            # A function that is traced within another reports before that does.
            while spent and spent[-1][0] >= start:
                spent.pop()
            spent.append((max(start, spent[-1][1]) if spent else start, end))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield spent
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def _labels_right(truth: Graph, guess: Graph | None, rounds: int) -> bool:
    """Whether nodes have their labels, up to those alike so many edges away.

    Which of two such nodes has which label no network of so many layers tells.
    """
    if guess is None or guess.num_nodes != truth.num_nodes:
        return False
    truth, guess = real(truth), real(guess)
    labelled = [
        sorted(zip(seen, np.broadcast_to(graph.labels, len(seen)), strict=True))
        for seen, graph in zip(
            colours(truth, guess, rounds), (truth, guess), strict=True
        )
    ]
    return labelled[0] == labelled[1]


def _digest(found: Outcome) -> str:
    """Equal for two runs that found the same graphs, in the same order of nodes."""
    said = hashlib.sha256(found.status.encode())
    for graph in found.graphs:
        for part in real(graph):
            said.update(np.ascontiguousarray(part, np.int32).tobytes())
    return said.hexdigest()[:16]
