"""What every graph network is to trainer and attacks: `GraphModel`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxinv.errors import InputError
from jaxinv.graph import Graph, GraphSpec
from jaxinv.options import check_choice, check_positive
from jaxinv.target import Target

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    # PyTorch's GELU, which the published runs use, is the exact one.
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "relu": jax.nn.relu,
}
"""Of layers and readout."""


class Factor(NamedTuple):
    """A part of the gradient whose columns are mixtures of a layer's inputs.

    For a linear map of `[n, D]` inputs the gradient is inputs^T times something, so
    every column lies in the span of the inputs' rows.
    """

    matrix: jax.Array
    """`[D, K]`, or `[D + 1, K]` where `affine`."""
    affine: bool
    """Whether a last row belongs to a constant 1 beside the inputs (a bias), so that
    columns are mixtures of `[inputs, 1]`."""


class GraphModel(NamedTuple):
    """A message-passing network, open at every level.

    Level 0 is the normalised features; level l is what layer l makes of level l - 1;
    the readout maps the last level (with the features beside it, where it does) to one
    row of logits per node. `prepare` and `combine` say what a layer does at one node,
    given its neighbours; the loss says the same of a whole graph by matrix products.
    """

    init: Callable[[jax.Array], Any]
    """`(key) -> params`."""
    loss: Callable[[Any, Graph], jax.Array]
    """`(params, graph) -> scalar`: binary cross-entropy over classes, as published."""
    levels: Callable[[Any, Graph], list[jax.Array]]
    """`(params, graph) -> [n, D_l]` for levels 0 to `depth`."""
    prepare: Callable[[Any, int, jax.Array, jax.Array, np.ndarray | None], Any]
    """`(params, level, inputs [N, D], degrees [N], columns) -> messages`, a tree of
    `[N, ...]`: what a node of level - 1 gives to layer `level`, 1 to `depth`, of whose
    units only `columns` are computed (None: all)."""
    combine: Callable[[Any, int, Any, Any, jax.Array, np.ndarray | None], jax.Array]
    """`(params, level, own, others, present [..., K], columns) -> [..., D_level]` from
    messages of the node `[..., ]` and of its neighbours `[..., K]`."""
    coordinates: Callable[[int, np.ndarray], np.ndarray]
    """`(level, columns) -> [C]`, where `combine` of these columns is in a whole row."""
    factors: Callable[[Any, int], list[Factor]]
    """`(update, level) -> factors` of that level's rows; of the last level those of
    the readout's inputs."""
    readout: Callable[[Any, Any], jax.Array]
    """`(params, inputs [..., U]) -> [..., C]` logits."""
    readout_activation: str
    """Between the layers of the readout, a key of `ACTIVATIONS`."""
    readout_inputs: Callable[[Any, Any], jax.Array]
    """`(features, last level) -> [..., U]`, what the readout is fed."""
    spec: GraphSpec
    """Of the graphs."""
    depth: int
    """L, how many layers pass messages."""
    width: int
    """Units of a layer (of one head)."""
    name: str
    """A key of `GRAPH_MODELS`."""

    def batch_loss(self, params: Any, graphs: Graph) -> jax.Array:
        """Mean loss of graphs on a first axis, as `jaxinv.fedavg` wants one."""
        return jax.vmap(self.loss, (None, 0))(params, graphs).mean()

    def target(self) -> Target:
        """As the target of attacks that only need a loss."""
        return Target(self.init, self.loss, self.spec)  # type: ignore[arg-type]


def binary_cross_entropy(logits: jax.Array, graph: Graph, spec: GraphSpec) -> jax.Array:
    """The published loss of `[n, C]` logits.

    Mean over classes of the binary cross-entropy with one-hot labels; of the mean
    logits for a graph task, mean over nodes of each for a node task. Labels that are
    floats are taken as they are, `[C]` or `[n, C]`: a guess between the classes.
    """
    mask = graph.mask.astype(logits.dtype)
    labels = jnp.asarray(graph.labels)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        labels = labels.astype(logits.dtype)
    else:
        labels = jax.nn.one_hot(labels, spec.num_classes, dtype=logits.dtype)
    if spec.task == "graph":
        mean = mask @ logits / mask.sum()
        return optax.sigmoid_binary_cross_entropy(mean, labels).mean()
    losses = optax.sigmoid_binary_cross_entropy(logits, labels).mean(-1)
    return losses @ mask / mask.sum()


def readout_layers(
    key: jax.Array, sizes: Sequence[int], dtype: Any = jnp.float32
) -> list[dict[str, jax.Array]]:
    """Dense layers, drawn as PyTorch's `Linear` draws."""
    layers = []
    for k, rows, columns in zip(
        jax.random.split(key, len(sizes) - 1), sizes[:-1], sizes[1:], strict=True
    ):
        bound = rows**-0.5
        kernel, bias = (
            jax.random.uniform(part, shape, dtype, -bound, bound)
            for part, shape in zip(
                jax.random.split(k), ((rows, columns), (columns,)), strict=True
            )
        )
        layers.append({"kernel": kernel, "bias": bias})
    return layers


def apply_readout(
    layers: Sequence[dict[str, jax.Array]], x: jax.Array, activation: str
) -> jax.Array:
    """Dense layers with the activation between them."""
    for layer in layers[:-1]:
        x = ACTIVATIONS[activation](x @ layer["kernel"] + layer["bias"])
    return x @ layers[-1]["kernel"] + layers[-1]["bias"]


def readout_factor(update: Any) -> Factor:
    """The readout's first layer, whose bias stands for the constant 1."""
    first = update["readout"][0]
    return Factor(jnp.concatenate([first["kernel"], first["bias"][None]]), True)


def readout_slopes(params: Any, inputs: jax.Array, ahead: jax.Array, activation: str):
    """How the first layer of a readout feels a slope of its logits.

    Args:
      params: of the model.
      inputs: `[T, U]` of the readout.
      ahead: `[T, C]`, the slope of the loss by each node's logits.
      activation: of the readout.

    Returns:
      `[T, K]`, the slope by the first layer's output before its activation.
    """
    first, *rest = params["readout"]

    def logits(shift: jax.Array) -> jax.Array:
        hidden = inputs @ first["kernel"] + first["bias"] + shift
        if not rest:
            return hidden
        return apply_readout(rest, ACTIVATIONS[activation](hidden), activation)

    zeros = jnp.zeros((len(inputs), first["kernel"].shape[1]), inputs.dtype)
    return jax.vjp(logits, zeros)[1](ahead)[0]


def check_network(
    spec: GraphSpec, depth: int, width: int, activation: str, readout: Sequence[int]
) -> None:
    """Refuses sizes no network has.

    Raises:
      InputError: names the option, its value and what was expected.
    """
    if not isinstance(spec, GraphSpec):
        raise InputError(f"spec is {type(spec).__name__}; expected a GraphSpec")
    check_positive("depth", depth)
    check_positive("width", width)
    check_choice("activation", activation, ACTIVATIONS)
    if not isinstance(readout, (list, tuple)):
        raise InputError(f"readout is {readout!r}; expected a list of numbers of units")
    for i, units in enumerate(readout):
        check_positive(f"readout[{i}]", units)


def check_params(model: GraphModel, params: Any) -> None:
    """Refuses weights that are not a model's.

    Raises:
      InputError: names a leaf, what it is and what was expected.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    found = {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}
    expected = _shapes(model)
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            raise InputError(
                f"params{name} has shape {found.get(name, 'none')}; expected "
                f"{expected.get(name, 'none')} of a {model.name} of depth "
                f"{model.depth} and width {model.width}"
            )


@functools.lru_cache(maxsize=16)
def _shapes(model: GraphModel) -> dict[str, tuple[int, ...]]:
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}
