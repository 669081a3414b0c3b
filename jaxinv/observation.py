"""Observations: what the server received, and what it is said to know besides."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.errors import InputError, KnowledgeError
from jaxinv.graph import GraphSpec
from jaxinv.local_training import LocalTraining
from jaxinv.options import check_choice
from jaxinv.received import (
    check_local_training,
    check_update,
    checked_batch_stats,
    checked_graph,
    checked_labels,
    checked_visible,
    moved,
    named_leaves,
    shown_only,
)
from jaxinv.release import trained
from jaxinv.target import Moments, Params, Spec


@flax.struct.dataclass
class Knowledge:
    """What the threat model grants the attacker beyond params and update.

    None means withheld. Attacks read it through `require`, which refuses; whether an
    entry is None is part of the tree's structure, so refusals come at trace time.
    """

    labels: jax.Array | None = None
    """`[N]` integers, the labels of the secret batch (in the order recovered)."""
    batch_stats: dict[str, Moments] | None = None
    """Moments of what entered each batch-norm layer, by its path."""
    users: jax.Array | None = None
    """`[rounds, D]`, the embeddings a recommender's client keeps to itself: granted
    only to see what an attack could do at best."""
    local_training: LocalTraining | None = flax.struct.field(
        pytree_node=False, default=None
    )
    """How the client trained, where it sent a delta. Static."""
    num_nodes: int | None = flax.struct.field(pytree_node=False, default=None)
    """n, how many nodes the client's graph has. Static."""
    adjacency: jax.Array | None = None
    """`[n, n]`, zeros and ones, the edges of the client's graph."""
    visible: Any | None = None
    """Bool, structured as the update, leaves `[rounds, ...]`, or `[1, ...]` for all
    rounds alike: False where the client encrypted the number, and what the update holds
    there means nothing. None where all of it is plain."""

    def granted(self) -> tuple[str, ...]:
        """Names of what is granted, for reports."""
        fields = self.__dataclass_fields__
        return tuple(name for name in fields if getattr(self, name) is not None)


SENT = ("gradient", "delta", "weights")
"""What a client may have sent; see `observe`."""


@flax.struct.dataclass
class Observation:
    """What an attack is given. Built and checked by `observe`.

    Leaves of `params` and `update` carry a leading axis `[rounds]`: what was sent and
    what came back, 1 for a single gradient. `known` belongs to the secret, which is
    one for all rounds, and has no such axis.
    """

    params: Params
    """What the server sent, leaves `[rounds, ...]`."""
    update: Any
    """What the client returned, leaves `[rounds, ...]`, structured as the params."""
    known: Knowledge
    """What else the attacker knows."""
    num_examples: int = flax.struct.field(pytree_node=False)
    """N, the number of examples in the secret batch."""
    spec: Any = flax.struct.field(pytree_node=False)
    """What an example looks like: a `Spec`, a recommender's `RatingScale`, or a
    `GraphSpec`."""
    weights: jax.Array | None = None
    """`[rounds]`, how much each round counts, 0 for one that is missing; None where
    all count alike."""
    sent: str = flax.struct.field(pytree_node=False, default="gradient")
    """"gradient", or "delta": the weights after local training minus those before."""

    @property
    def rounds(self) -> int:
        """How many rounds were observed."""
        return jax.tree.leaves(self.update)[0].shape[0]

    def round(self, index: int) -> tuple[Params, Any]:
        """Params and update of one round, without the axis."""
        return jax.tree.map(lambda leaf: leaf[index], (self.params, self.update))

    def shown(self, index: int) -> Any | None:
        """Of one round, without the axis: which numbers of its update are plain."""
        return jax.tree.map(
            lambda leaf: leaf[index if leaf.shape[0] > 1 else 0], self.known.visible
        )


def require(observation: Observation, name: str, *, why: str) -> Any:
    """One entry of the attacker's knowledge, or a refusal that says which.

    Args:
      observation: what the attacker has.
      name: a field of `Knowledge`.
      why: what wants it and what to do without, ends the message.

    Raises:
      KnowledgeError: the entry was not granted.
    """
    value = getattr(observation.known, name)
    if value is None:
        granted = ", ".join(observation.known.granted()) or "nothing"
        raise KnowledgeError(
            f"{name} is needed and not granted (granted: {granted}); {why}"
        )
    return value


def mean_gradient(observation: Observation, *, who: str, partial: bool = False) -> Any:
    """The first round's update as a gradient, for what reads one.

    A delta becomes `-delta / (learning_rate * steps)`: the mean of the local steps'
    gradients, each taken where the steps before had led. It estimates the gradient at
    the weights that were sent, the better the shorter the training was.

    Args:
      observation: what the attacker has.
      who: what reads it, for the refusal.
      partial: whether that heeds `Knowledge.visible`. The numbers that are not visible
        come back as zeros; what would take them for numbers is refused.

    Raises:
      KnowledgeError: the update is a delta and `local_training` was not granted.
      InputError: it is a delta of an optimiser whose steps hold no mean gradient, or
        parts of it are encrypted.
    """
    update = observation.round(0)[1]
    if observation.known.visible is not None:
        if not partial:
            raise InputError(
                f"visible hides a part of the update and {who} reads all of it; "
                "expected an observation without visible"
            )
        update = shown_only(update, observation.shown(0))
    if observation.sent == "gradient":
        return update
    local = require(
        observation,
        "local_training",
        why=f"{who} reads a gradient, and of a weight delta one knows it only with the "
        "step size and the number of steps",
    )
    travel = local.travel(observation.num_examples)
    return jax.tree.map(lambda leaf: -leaf / travel, update)


def exact_gradient(observation: Observation, *, who: str, partial: bool = False) -> Any:
    """As `mean_gradient`, where that is exact: one step on the whole batch.

    Raises:
      KnowledgeError: as there.
      InputError: as there, or the client took more steps than one or a part of its
        batch.
    """
    gradient = mean_gradient(observation, who=who, partial=partial)
    if observation.sent == "delta":
        local, num = observation.known.local_training, observation.num_examples
        assert local is not None
        steps, size = local.shape(num)
        if steps != 1 or size * local.clients != num:
            raise InputError(
                f"local_training has {steps} steps of {size} examples; {who} expected "
                f"one step on all {num}, the only one whose gradient a delta holds "
                "exactly"
            )
    return gradient


def observe(
    params: Params,
    update: Any,
    *,
    num_examples: int,
    spec: Spec | GraphSpec,
    labels: Any = None,
    batch_stats: dict[str, Moments] | None = None,
    sent: str = "gradient",
    local_training: LocalTraining | None = None,
    num_nodes: int | None = None,
    adjacency: Any = None,
    visible: Any = None,
) -> Observation:
    """An observation of one round, checked.

    Args:
      params: what the server sent: a tree of arrays, or `Variables`.
      update: what the client returned, same structure and shapes as the params that
        are trained.
      num_examples: N, the size of the client's batch; 1 for a graph.
      spec: what an example looks like.
      labels: `[N]` integers if the attacker is granted them, else None. Of a graph's
        node task `[n]`, which grants `num_nodes`.
      batch_stats: moments by batch-norm layer if the attacker is granted them.
      sent: what the update is: a "gradient", a "delta" of the weights (after local
        training minus before), or the new "weights", which become a delta here.
      local_training: how the client trained if the attacker is granted it; not for a
        gradient.
      num_nodes: n of the client's graph, if the attacker is granted it.
      adjacency: `[n, n]` of the client's graph in the order of the labels, if the
        attacker is granted it; grants `num_nodes`.
      visible: bools as the update is structured, False for each number that is
        encrypted. The update may hold anything there, NaN included; it is replaced by
        zero, and objectives match the rest alone. None where all is plain.

    Raises:
      InputError: the update does not fit the params, is not finite where it is
        visible, or an argument is out of range.
    """
    integral = isinstance(num_examples, (int, np.integer))
    if not integral or isinstance(num_examples, bool) or num_examples < 1:
        raise InputError(
            f"num_examples is {num_examples!r}; expected a positive integer"
        )
    check_update(params, update, checked_visible(visible, params))
    # By name, for two trees may hold the same names in another order (OrderedDict).
    structure = jax.tree.structure(trained(params))
    names = [name for name, _ in named_leaves(trained(params))]

    def in_order(tree: Any) -> Any:
        named = dict(named_leaves(tree))
        return jax.tree.unflatten(structure, [named[name] for name in names])

    update = in_order(update)
    num_nodes, adjacency = checked_graph(num_nodes, adjacency, labels, spec)
    if isinstance(spec, GraphSpec) and num_examples != 1:
        raise InputError(f"num_examples is {num_examples}; expected 1, a graph")
    if labels is not None:
        of_nodes = isinstance(spec, GraphSpec) and spec.task == "node"
        count = num_nodes if of_nodes and num_nodes else num_examples
        labels = checked_labels(labels, count, spec.num_classes)
    if batch_stats is not None:
        batch_stats = checked_batch_stats(batch_stats)
    check_choice("sent", sent, SENT)
    if local_training is not None:
        check_local_training(local_training, sent, int(num_examples))
    if sent == "weights":
        update = moved(trained(params), update)
    if visible is not None:
        visible = in_order(visible)
        update = shown_only(update, visible)

    def one_round(leaf):
        return jnp.asarray(leaf)[None]

    return Observation(
        params=jax.tree.map(one_round, params),
        update=jax.tree.map(one_round, update),
        known=Knowledge(
            labels=labels,
            batch_stats=batch_stats,
            local_training=local_training,
            num_nodes=num_nodes,
            adjacency=adjacency,
            visible=jax.tree.map(one_round, visible),
        ),
        num_examples=int(num_examples),
        spec=spec,
        sent="gradient" if sent == "gradient" else "delta",
    )
