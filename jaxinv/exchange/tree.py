"""Leaves of a model by path: "params/fc/bias", "batch_stats/bn/mean"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxinv.errors import InputError
from jaxinv.target import Variables

STATISTICS = "batch_stats"


def structure(target: Any) -> Any | None:
    """Shapes of what the target's `init` makes; None where it has no way to start.

    Raises:
      InputError: the init of the user's own failed.
    """
    try:
        return jax.eval_shape(target.init, jax.random.key(0))
    except InputError:
        return None
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise InputError(
            f"init of the model failed on shape {target.spec.shape}: "
            f"{type(error).__name__}: {text}"
        ) from None


def named(tree: Any) -> dict[str, Any]:
    """Every leaf by its path."""
    trained = tree.params if isinstance(tree, Variables) else tree
    found = {f"params/{_path(p)}": leaf for p, leaf in _flat(trained)}
    if isinstance(tree, Variables):
        found |= {_state_name(_path(p)): leaf for p, leaf in _flat(tree.state)}
    return found


def filled(tree: Any, leaves: Mapping[str, Any]) -> Any:
    """A tree of that structure with these leaves."""
    names = list(named(tree))
    return jax.tree.unflatten(jax.tree.structure(tree), [leaves[n] for n in names])


def nested(leaves: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """A dict of dicts from names joined with "/" or ".".

    Raises:
      InputError: one name is that of an array and of a group.
    """
    tree: dict[str, Any] = {}
    for name, values in leaves.items():
        *owners, last = name.removeprefix("params/").replace(".", "/").split("/")
        node = tree
        for owner in owners:
            node = node.setdefault(owner, {})
            if not isinstance(node, dict):
                break
        if not isinstance(node, dict) or last in node:
            raise InputError(f"tensor {name!r} is an array and a group of arrays")
        node[last] = values
    return tree


def _flat(tree: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_flatten_with_path(tree)[0]


def _path(path: Any) -> str:
    words = [getattr(p, "key", getattr(p, "idx", getattr(p, "name", p))) for p in path]
    return "/".join(str(word) for word in words)


def _state_name(path: str) -> str:
    """Running statistics by linen's name; nnx keeps them in the module."""
    statistic = path.rpartition("/")[2] in ("mean", "var")
    return (
        path if path.startswith(STATISTICS) or not statistic else f"{STATISTICS}/{path}"
    )
