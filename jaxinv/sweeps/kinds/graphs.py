"""Sweeps of graphs, molecules or neighbourhoods: each job is one graph, solved exactly.

GRAIN takes each graph through shapes of its own, so that nothing is shared but what is
compiled for them; jobs are solved one after another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxinv.audits.facts import interval, number
from jaxinv.audits.graphs import CitationsConfig, MoleculesConfig
from jaxinv.audits.graphs.audit import recovered
from jaxinv.audits.graphs.clients import Clients
from jaxinv.audits.graphs.config import AuditConfig
from jaxinv.audits.graphs.judge import judged
from jaxinv.audits.graphs.record import PAPER, TITLE
from jaxinv.audits.graphs.sources import Source, source_of
from jaxinv.models.graph_networks import build_graph_model
from jaxinv.models.graph_networks.base import GraphModel
from jaxinv.sweeps.kinds.base import (
    COLUMNS,
    Kind,
    Made,
    Point,
    Solved,
    decided,
    in_transit,
)
from jaxinv.target import Params

_OWN_COLUMNS = {
    "name": "string",
    "smiles": "string",
    "num_nodes": "int64",
    "num_edges": "int64",
    "exact": "bool",
    "in_class": "bool",
    "class_size": "int64",
    "complete": "bool",
    "wrong_unique": "bool",
    "distance": "float64",
    "gsm0": "float64",
    "gsm1": "float64",
    "gsm2": "float64",
    "node_share": "float64",
    "edge_share": "float64",
    "labels_right": "bool",
    "stage": "string",
    "reason": "string",
    "true": "string",
    "recovered": "string",
}
"""The last two are JSON of `jaxinv.audits.graphs.packing.packed`; "status" is the
certificate."""

_SHARES = ("exact", "in_class", "gsm0", "gsm1", "gsm2", "node_share", "edge_share")


class Scene(NamedTuple):
    """What the graphs of one point have in common."""

    source: Source
    model: GraphModel
    clients: Clients
    params: Params


@dataclass(frozen=True)
class GraphJob(Solved):
    """One client's graph."""

    scene: Scene
    index: int
    """Of the graph in its source."""

    def solve(self, *, pictures: bool) -> list[dict[str, Any]]:
        """Its one row."""
        config, scene = self.point.config, self.scene
        key = jax.random.split(jax.random.key(config.seed), 3)[2]
        key = jax.random.fold_in(key, self.index)
        update = scene.clients(key, scene.params, scene.source.graphs[self.index])
        found, seconds = recovered(
            config, scene.model, scene.params, update, scene.source.domain
        )
        entry = judged(scene.source, self.index, found, seconds)
        row = dict.fromkeys(MOLECULES.columns) | self.about()
        row |= {k: v for k, v in entry.items() if k in MOLECULES.columns}
        row |= {
            "target": config.model,
            "data": scene.source.name,
            "defense": in_transit(config),
            "status": entry["certificate"],
        }
        if pictures:
            row |= {
                "true": json.dumps(entry["truth"]),
                "recovered": entry["pick"] and json.dumps(entry["pick"]),
            }
        return [row]


class GraphScenes:
    """Graphs, models and parameters, each made once."""

    def __init__(self) -> None:
        self._once = Made()
        self._sources: dict[str, Source] = {}

    def jobs(self, point: Point, numbers: Iterator[int]) -> Iterator[GraphJob]:
        """A job for each graph.

        Raises:
          InputError: the point does not fit.
          OSError: its data cannot be read.
        """
        scene = self._of(point.config)
        for index in range(len(scene.source.graphs)):
            yield GraphJob(next(numbers), point, scene, index)

    def fingerprints(self) -> dict[str, str]:
        """Of the graphs that are attacked."""
        found = {}
        for at, source in self._sources.items():
            digest = hashlib.sha256()
            for graph in source.graphs:
                for leaf in jax.tree.leaves(graph):
                    digest.update(np.ascontiguousarray(leaf).data)
            found[f"{source.name}, {at}"] = digest.hexdigest()
        return found

    def sizes(self) -> dict[str, int]:
        """Graphs, or nodes of the network, in each data set."""
        return {source.name: source.total for source in self._sources.values()}

    def _of(self, config: AuditConfig) -> Scene:
        source = self._once(config, _OF_SOURCE, lambda: source_of(config))
        self._sources[decided(config, _OF_SOURCE)] = source

        def scene() -> Scene:
            options = config.network_options()
            model = build_graph_model(config.model, source.spec, **options)
            clients = Clients(
                model,
                noise=config.noise,
                float16=config.float16,
                local=config.local_training(),
            )
            key = jax.random.split(jax.random.key(config.seed), 3)[0]
            return Scene(source, model, clients, jax.jit(model.init)(key))

        return self._once(config, _OF_SCENE, scene)


def _known(points: Sequence[Point]) -> list[str]:
    configs = [point.config for point in points]
    found = ["vocabulary"]
    if any(config.local_lr is not None for config in configs):
        found.append("local_training")
    if all(not getattr(config, "no_chemistry", True) for config in configs):
        found.append("chemistry")
    return found


def _line(
    rows: Sequence[Mapping[str, Any]], sizes: Mapping[str, int]
) -> dict[str, Any]:
    exact = [float(row["exact"]) for row in rows]
    return {name: number(np.mean([row[name] for row in rows])) for name in _SHARES} | {
        "exact_interval": interval(exact),
        "unique": sum(row["status"] == "unique" for row in rows),
        "wrong_unique": sum(row["wrong_unique"] for row in rows),
    }


_OF_ATTACK = ("candidates", "seconds")
_OF_SOURCE = ("data", "num", "seed", "task", "label", "no_chemistry")
_OF_SCENE = (*_OF_SOURCE, "model", "depth", "width", "activation", "noise", "float16")
_OF_SCENE += ("local_lr", "local_steps", "model_options")


def _kind(unit: str, config: type[AuditConfig]) -> Kind:
    def made(attack: str, chain: tuple[str, ...], seed: int, **given: Any):
        assert not chain  # refused before
        return config(seed=seed, **given)

    placed = {"seed", "controls", "model_options", *_OF_ATTACK}
    return Kind(
        unit=unit,
        config=made,
        owner="model",
        of_case=frozenset({f.name for f in fields(config)} - placed),
        of_attack=frozenset(_OF_ATTACK),
        attacks={"grain": SimpleNamespace(title=TITLE, paper=PAPER)},
        takes_options=False,
        defended=False,
        columns={**COLUMNS, **_OWN_COLUMNS},
        pictured=("true", "recovered"),
        scenes=GraphScenes,
        known=_known,
        line=_line,
    )


MOLECULES = _kind("molecule", MoleculesConfig)
CITATIONS = _kind("graph", CitationsConfig)
