"""Networks on graphs as targets, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxinv.errors import InputError, nearest
from jaxinv.graph import GraphSpec
from jaxinv.models.graph_networks.base import GraphModel
from jaxinv.models.graph_networks.gat import gat
from jaxinv.models.graph_networks.gcn import gcn
from jaxinv.options import check_options

GRAPH_MODELS: dict[str, Callable[..., GraphModel]] = {"gat": gat, "gcn": gcn}
"""Every graph network that has a name."""


def build_graph_model(name: str, spec: GraphSpec, /, **options: Any) -> GraphModel:
    """A graph network by name.

    Raises:
      InputError: the name or an option is unknown or out of range.
    """
    if not isinstance(name, str) or name not in GRAPH_MODELS:
        raise InputError(f"model is {name!r}; {nearest(name, GRAPH_MODELS)}")
    check_options(name, GRAPH_MODELS[name], options)
    return GRAPH_MODELS[name](spec, **options)
