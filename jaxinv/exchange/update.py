"""From files to an observation: what a server has, held against what is said of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.errors import InputError
from jaxinv.exchange import tree
from jaxinv.exchange.client_file import ClientFile, read_client
from jaxinv.exchange.files import read_tensors
from jaxinv.exchange.layout import Layout
from jaxinv.exchange.model_file import load_model
from jaxinv.exchange.pairing import pair_up
from jaxinv.exchange.plausible import Finding, plausible
from jaxinv.fedavg import FedAvg
from jaxinv.local_training import LocalTraining
from jaxinv.observation import Observation, observe
from jaxinv.release import Release, gradient, trained
from jaxinv.target import Target

Leaves = dict[str, np.ndarray]


@dataclass(frozen=True)
class ReceivedUpdate:
    """An update that came in, and all that is known of it."""

    target: Target
    """The model under attack."""
    observation: Observation
    """What the server has, with what it is said to know."""
    client: ClientFile
    """What was said of the client."""
    local: LocalTraining | None
    """How it trained on the mean loss; None where it sent a gradient."""
    release: Release
    """What it does, without its defences."""
    layout: Layout
    """How the file's tensors became the model's leaves."""
    findings: tuple[Finding, ...]
    """Whether this update can have come from this client."""
    compared: str | None
    """What a comparison with the model in PyTorch found; None without one."""

    def observe_other(self, path: str | os.PathLike[str]) -> Observation:
        """The observation with another client's update in place of this one.

        Raises:
          InputError: the file does not fit.
        """
        leaves = _trained(
            self.layout.of_model(read_tensors(path), str(path), partial=True)
        )
        return self.observe_leaves(leaves)

    def observe_leaves(self, leaves: Mapping[str, np.ndarray]) -> Observation:
        """The observation with another update, trained leaves by path, as they come."""
        return _observation(
            self.target,
            jax.tree.map(lambda leaf: leaf[0], self.observation.params),
            leaves,
            self.client,
            self.local,
        )

    def leaves(self) -> Leaves:
        """What came back, as it would be sent: trained leaves by path."""
        params, update = self.observation.round(0)
        found = {n: np.asarray(v) for n, v in tree.named(update).items()}
        if self.client.sent == "weights":
            before = tree.named(params)
            found = {n: np.asarray(before[n]) + v for n, v in found.items()}
        if self.client.sent == "gradient" and self.client.reduction == "sum":
            found = {n: v * np.float32(self.client.examples) for n, v in found.items()}
        return found


def read_update(
    model: str | Target,
    params: str | os.PathLike[str],
    update: str | os.PathLike[str],
    client: str | os.PathLike[str] | ClientFile,
    *,
    torch_model: str | None = None,
    options: Mapping[str, Any] | None = None,
    anyway: bool = False,
) -> ReceivedUpdate:
    """Reads an update and all that belongs to it, and checks that they fit.

    Args:
      model: as `jaxinv.exchange.load_model`, or a `Target`.
      params: file of what the server sent; see `read_tensors`.
      update: file of what came back, laid out as the params.
      client: its `client.toml`, or what that holds.
      torch_model: `FILE.py:NAME`, the model in PyTorch; both are then run on one batch.
      options: of the model.
      anyway: whether to go on where a check says that this client cannot have sent it.

    Raises:
      InputError: a file is not what it should be, tensors do not fit the model, the
        model differs from that in PyTorch, or the update is impossible.
    """
    said = client if isinstance(client, ClientFile) else read_client(client)
    target = model
    if isinstance(target, str):
        target = load_model(
            target, said.spec, batch_norm=said.batch_norm, options=options
        )
    sent, came = read_tensors(params), read_tensors(update)
    shapes = tree.structure(target)
    layout = _layout(sent, shapes, target, said)
    for tensors, what in ((sent, "params"), (came, "update")):
        layout.check_round_trip(tensors, what)
        _check_shapes(tensors, sent, what)
    before = _floats(layout.of_model(sent, "params", partial=True), "params")
    # A client may send its running statistics along; nothing here reads them.
    back = _trained(_floats(layout.of_model(came, "update", partial=True), "update"))
    whole, compared = _filled(shapes, before, target, said), None
    if torch_model is not None:
        # PyTorch need not be installed otherwise.
        from jaxinv.exchange.torch_check import compare

        compared = compare(torch_model, target, whole, layout, sent, said)
    given = _trained(before)
    if given.keys() != back.keys():
        missing = sorted(given.keys() ^ back.keys())
        raise InputError(f"update lacks {', '.join(missing[:3])}, which params has")
    findings = tuple(
        plausible(
            said,
            given,
            back,
            head=target.spec.head,
            # A loss of one's own may be anything; one made of a module is known.
            cross_entropy=target.probe is not None,
        )
    )
    wrong = [f for f in findings if f.verdict == "impossible"]
    finite = [f for f in wrong if f.check == "finite"]
    if finite or (wrong and not anyway):
        first = (finite or wrong)[0]
        end = "" if finite else "; correct client.toml, or go on with --anyway"
        raise InputError(
            f"this client cannot have sent this update ({first.check}): {first.line}"
            f"{end}"
        )
    local = _on_the_mean(said)
    return ReceivedUpdate(
        target=target,
        observation=_observation(target, whole, back, said, local),
        client=said,
        local=local,
        release=_release(target, local),
        layout=layout,
        findings=findings,
        compared=compared,
    )


def _layout(sent: Leaves, shapes: Any, target: Target, said: ClientFile) -> Layout:
    theirs = {name: values.shape for name, values in sent.items()}
    if shapes is None:
        # Nothing says how the loss wants its parameters, so the names in the file do.
        ours = {
            f"params/{n.removeprefix('params/').replace('.', '/')}": s
            for n, s in theirs.items()
        }
    else:
        ours = {name: tuple(leaf.shape) for name, leaf in tree.named(shapes).items()}
        ours = {
            name: shape
            for name, shape in ours.items()
            if name.startswith(("params/", f"{tree.STATISTICS}/"))
        }
    return pair_up(
        theirs,
        ours,
        order=target.spec.layers,
        example=target.spec.shape,
        names=said.names,
        flatten=said.flatten,
    )


def _filled(shapes: Any, leaves: Leaves, target: Target, said: ClientFile) -> Any:
    """Params as the model wants them, with statistics of the file or of init."""
    if shapes is None:
        return jax.tree.map(jnp.asarray, tree.nested(leaves))
    wanted = tree.named(shapes)
    missing = [name for name in wanted if name not in leaves]
    statistics = [n for n in missing if n.startswith(f"{tree.STATISTICS}/")]
    if statistics and said.batch_norm != "batch":
        raise InputError(
            f"params lacks the running statistics {statistics[0].partition('/')[2]!r}; "
            'expected them in the file, or client.batch_norm = "batch"'
        )
    if missing:
        fresh = tree.named(target.init(jax.random.key(0)))
        leaves = {**leaves, **{name: fresh[name] for name in missing}}
    return tree.filled(shapes, {name: jnp.asarray(leaves[name]) for name in wanted})


def _observation(
    target: Target,
    params: Any,
    update: Mapping[str, np.ndarray],
    said: ClientFile,
    local: LocalTraining | None,
) -> Observation:
    found = dict(update)
    if said.sent == "gradient" and said.reduction == "sum":
        found = {name: values / said.examples for name, values in found.items()}
    return observe(
        params,
        tree.filled(trained(params), found),
        num_examples=said.examples,
        spec=target.spec,
        labels=None if said.labels is None else np.asarray(said.labels),
        sent=said.sent,
        local_training=local,
    )


def _on_the_mean(said: ClientFile) -> LocalTraining | None:
    """The training on a mean loss that does what the client's does on its own.

    Adam does not feel a factor in its loss.
    """
    local = said.local
    if local is None or said.reduction == "mean" or local.optimizer == "adam":
        return local
    _, size = local.shape(said.examples)
    return replace(local, learning_rate=local.learning_rate * size)


def _release(target: Target, local: LocalTraining | None) -> Release:
    one = gradient(target.loss)
    return one if local is None else FedAvg(one.loss, local)


def _floats(leaves: Leaves, what: str) -> Leaves:
    found = {}
    for name, values in leaves.items():
        if not jnp.issubdtype(values.dtype, jnp.floating):
            raise InputError(
                f"{what} {name} is {values.dtype}; expected floating point"
            )
        with np.errstate(over="ignore"):
            found[name] = np.asarray(values, np.float32)
    return found


def _trained(leaves: Mapping[str, np.ndarray]) -> Leaves:
    return {
        n: np.asarray(v, np.float32)
        for n, v in leaves.items()
        if n.startswith("params/")
    }


def _check_shapes(tensors: Leaves, sent: Leaves, what: str) -> None:
    for name, values in tensors.items():
        if name in sent and values.shape != sent[name].shape:
            raise InputError(
                f"{what} {name!r} has shape {values.shape}; expected "
                f"{sent[name].shape} as in params"
            )
