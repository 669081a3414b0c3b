"""What is said to have come back from a client, checked before it is observed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.errors import InputError
from jaxinv.graph import GraphSpec, graph
from jaxinv.local_training import LocalTraining
from jaxinv.options import check_positive
from jaxinv.release import trained
from jaxinv.target import Moments, Params


def check_local_training(local: Any, sent: str, num_examples: int) -> None:
    """Refuses what does not describe the training behind this update.

    Raises:
      InputError: names what was given and what was expected.
    """
    if not isinstance(local, LocalTraining):
        raise InputError(
            f"local_training is {type(local).__name__}; expected a LocalTraining"
        )
    if sent == "gradient":
        raise InputError(
            "local_training is given for a gradient; expected sent='delta' or "
            "sent='weights'"
        )
    local.shape(num_examples)


def moved(before: Any, after: Any) -> Any:
    """After minus before, on the host: weights may come wider than JAX holds them."""
    return jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), after, before)


def check_update(
    params: Params, update: Any, visible: dict[str, np.ndarray] | None = None
) -> None:
    """Refuses an update that cannot have come from a client that was sent `params`.

    Args:
      params: what was sent.
      update: what came back.
      visible: from `checked_visible`; other numbers of the update may be anything.

    Raises:
      InputError: names the leaf, what it is and what was expected.
    """
    expected = dict(named_leaves(trained(params)))
    found = dict(named_leaves(update))
    if not expected:
        raise InputError("params holds no arrays; expected a tree of float arrays")
    if expected.keys() != found.keys():
        missing = sorted(expected.keys() - found.keys())
        surplus = sorted(found.keys() - expected.keys())
        parts = [f"lacks {', '.join(missing[:3])}"] if missing else []
        parts += [f"has {', '.join(surplus[:3])} that params lacks"] if surplus else []
        raise InputError(
            f"update does not have the structure of params: it {' and '.join(parts)}"
        )
    for name, leaf in expected.items():
        for owner, value in (("params", leaf), ("update", found[name])):
            dtype = getattr(value, "dtype", np.asarray(value).dtype)
            if not jnp.issubdtype(dtype, jnp.floating):
                raise InputError(f"{owner}{name} is {dtype}; expected floating point")
        if np.shape(leaf) != np.shape(found[name]):
            raise InputError(
                f"update{name} has shape {np.shape(found[name])}; expected "
                f"{np.shape(leaf)} as in params"
            )
    for owner, tree in (("update", found), ("params", expected)):
        for name, leaf in tree.items():
            # As jax will hold it: float64 can overflow on its way to float32.
            held = np.asarray(leaf)
            with np.errstate(over="ignore"):
                held = held.astype(jax.dtypes.canonicalize_dtype(held.dtype))
            if owner == "update" and visible is not None:
                held = held[visible[name]]
            bad = int(held.size - np.isfinite(held).sum())
            if bad:
                raise InputError(
                    f"{owner}{name} holds {bad} values that are NaN or infinite; "
                    "expected finite numbers"
                )


def checked_visible(visible: Any, params: Params) -> dict[str, np.ndarray] | None:
    """Which numbers of an update are plain, by the name of the leaf; None for all.

    Raises:
      InputError: it is not of the structure and the shapes of the params that are
        trained, or holds anything but bools.
    """
    if visible is None:
        return None
    expected = dict(named_leaves(trained(params)))
    found = {name: np.asarray(leaf) for name, leaf in named_leaves(visible)}
    if expected.keys() != found.keys():
        wrong = sorted(expected.keys() ^ found.keys())
        raise InputError(
            "visible does not have the structure of the update: they differ in "
            f"{', '.join(wrong[:3])}"
        )
    for name, leaf in found.items():
        if leaf.dtype != bool:
            raise InputError(f"visible{name} is {leaf.dtype}; expected bool")
        if leaf.shape != np.shape(expected[name]):
            raise InputError(
                f"visible{name} has shape {leaf.shape}; expected "
                f"{np.shape(expected[name])} as in the update"
            )
    return found


def shown_only(update: Any, visible: Any) -> Any:
    """The update with zeros where it is not visible, whatever it held there."""
    return jax.tree.map(lambda leaf, shown: jnp.where(shown, leaf, 0), update, visible)


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Leaves by their path as text, such as `['dense']['bias']`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def checked_labels(labels: Any, num_examples: int, num_classes: int) -> jax.Array:
    """`[N]` int32.

    Raises:
      InputError: they are no integers of `N` known classes.
    """
    try:
        labels = np.asarray(labels)
    except ValueError:
        raise InputError("labels is ragged; expected [N] integers") from None
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels is {labels.dtype}; expected integers")
    if labels.shape != (num_examples,):
        raise InputError(
            f"labels has shape {labels.shape}; expected ({num_examples},), one for "
            "each example"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        worst = labels.min() if labels.min() < 0 else labels.max()
        raise InputError(
            f"labels holds {worst}; expected 0 to {num_classes - 1} for "
            f"{num_classes} classes"
        )
    return jnp.asarray(labels, jnp.int32)


def checked_batch_stats(batch_stats: Any) -> dict[str, Moments]:
    """Moments by layer.

    Raises:
      InputError: names the layer, and what of it no batch can have.
    """
    if not isinstance(batch_stats, dict):
        raise InputError(
            f"batch_stats is {type(batch_stats).__name__}; expected a dict of Moments "
            "by layer"
        )
    checked = {}
    for layer, moments in batch_stats.items():
        if not isinstance(moments, Moments):
            raise InputError(
                f"batch_stats[{layer!r}] is {type(moments).__name__}; expected Moments"
            )
        mean, var = np.asarray(moments.mean), np.asarray(moments.var)
        if mean.ndim != 1 or mean.shape != var.shape:
            raise InputError(
                f"batch_stats[{layer!r}] has shapes {mean.shape} and {var.shape}; "
                "expected [C] twice"
            )
        for name, value in (("mean", mean), ("var", var)):
            if not jnp.issubdtype(value.dtype, jnp.floating):
                raise InputError(
                    f"batch_stats[{layer!r}].{name} is {value.dtype}; expected "
                    "floating point"
                )
            if not np.isfinite(value).all() or (name == "var" and (value < 0).any()):
                raise InputError(
                    f"batch_stats[{layer!r}].{name} holds values that no batch has; "
                    "expected finite numbers, and variances of 0 or more"
                )
        checked[layer] = Moments(jnp.asarray(mean), jnp.asarray(var))
    return checked


def checked_graph(
    num_nodes: Any, adjacency: Any, labels: Any, spec: Any
) -> tuple[int | None, jax.Array | None]:
    """Node count and `[n, n]` adjacency; the count follows from what else is granted.

    Raises:
      InputError: there is no graph to have them, or they are of none or of several.
    """
    if not isinstance(spec, GraphSpec):
        if num_nodes is not None or adjacency is not None:
            raise InputError("num_nodes or adjacency without a GraphSpec as spec")
        return None, None
    counts = {}
    if num_nodes is not None:
        num_nodes = int(num_nodes) if isinstance(num_nodes, np.integer) else num_nodes
        check_positive("num_nodes", num_nodes)
        counts["num_nodes"] = num_nodes
    if adjacency is not None:
        try:
            adjacency = np.asarray(adjacency, np.float32)
        except (TypeError, ValueError):
            raise InputError("adjacency is no array; expected [n, n] numbers") from None
        rows = max(1, adjacency.shape[0]) if adjacency.ndim else 1
        adjacency = jnp.asarray(graph(np.zeros((rows, 1)), adjacency, 0).adjacency)
        counts["adjacency"] = rows
    if labels is not None and spec.task == "node":
        counts["labels"] = np.size(labels)
    if len(set(counts.values())) > 1:
        raise InputError(f"numbers of nodes differ: {counts}; expected one n for all")
    return next(iter(counts.values()), None), adjacency
