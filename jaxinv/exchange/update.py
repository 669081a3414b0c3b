"""From files to an observation: what a server has, held against what is said of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.errors import InputError
from jaxinv.exchange import tree
from jaxinv.exchange.client_file import ClientFile, read_client
from jaxinv.exchange.files import read_tensors
from jaxinv.exchange.finding import Finding
from jaxinv.exchange.layout import Layout
from jaxinv.exchange.model_file import load_model
from jaxinv.exchange.pairing import pair_up
from jaxinv.exchange.plausible import plausible
from jaxinv.exchange.received_update import (
    Leaves,
    ReceivedUpdate,
    observation_of,
    on_the_mean,
    only_trained,
    release_of,
)
from jaxinv.exchange.statistics import CameBack, batch_statistics
from jaxinv.exchange.unnamed import with_names
from jaxinv.target import Target


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
    sent, came = (
        with_names(read_tensors(path), said.arrays, what)
        for path, what in ((params, "params"), (update, "update"))
    )
    shapes = tree.structure(target)
    layout = _layout(sent, shapes, target, said)
    for tensors, what in ((sent, "params"), (came, "update")):
        layout.check_round_trip(tensors, what)
        _check_shapes(tensors, sent, what)
    before = _floats(layout.of_model(sent, "params", partial=True), "params")
    after = _floats(layout.of_model(came, "update", partial=True), "update")
    whole, compared = _filled(shapes, before, target, said), None
    if torch_model is not None:
        # PyTorch need not be installed otherwise.
        from jaxinv.exchange.torch_check import compare

        compared = compare(torch_model, target, whole, layout, sent, said)
    given, back = only_trained(before), only_trained(after)
    if given.keys() != back.keys():
        missing = sorted(given.keys() ^ back.keys())
        raise InputError(f"update lacks {', '.join(missing[:3])}, which params has")
    findings = plausible(
        said,
        given,
        back,
        head=target.spec.head,
        # A loss of one's own may be anything; one made of a module is known.
        cross_entropy=target.probe is not None,
    )
    moments, more = batch_statistics(
        said, target, whole, _came_back(said, layout, before, after, sent, came)
    )
    findings += more
    _refuse_impossible(findings, anyway)
    local = on_the_mean(said)
    return ReceivedUpdate(
        target=target,
        observation=observation_of(target, whole, back, said, local, moments),
        client=said,
        local=local,
        release=release_of(target, local),
        layout=layout,
        findings=tuple(findings),
        compared=compared,
    )


def _refuse_impossible(findings: list[Finding], anyway: bool) -> None:
    wrong = [f for f in findings if f.verdict == "impossible"]
    finite = [f for f in wrong if f.check == "finite"]
    if finite or (wrong and not anyway):
        first = (finite or wrong)[0]
        end = "" if finite else "; correct client.toml, or go on with --anyway"
        raise InputError(
            f"this client cannot have sent this update ({first.check}): {first.line}"
            f"{end}"
        )


def _came_back(
    said: ClientFile,
    layout: Layout,
    before: Leaves,
    after: Leaves,
    sent: Leaves,
    came: Leaves,
) -> CameBack:
    """The running statistics of both files; a delta's are added to those before."""
    old, new = (
        {n: v for n, v in leaves.items() if n.startswith(f"{tree.STATISTICS}/")}
        for leaves in (before, after)
    )
    new = {n: v for n, v in new.items() if n in old}
    counts = [
        (int(sent[n]), int(came[n]))
        for n in layout.dropped
        if all(
            n in t and t[n].size == 1 and t[n].dtype.kind in "iu" for t in (sent, came)
        )
    ]
    counted = {now - then for then, now in counts}
    if said.sent == "gradient":
        new, counted = {}, set()
    elif said.sent == "delta" and any((old[n] != v).any() for n, v in new.items()):
        # Else they are the values themselves, which did not change.
        new = {n: old[n] + v for n, v in new.items()}
        counted = {now for _, now in counts}
    unbiased = any(pair.theirs.endswith("running_var") for pair in layout.pairs)
    return CameBack(old, new, max(counted, default=None), unbiased)


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


def _check_shapes(tensors: Leaves, sent: Leaves, what: str) -> None:
    for name, values in tensors.items():
        if name in sent and values.shape != sent[name].shape:
            raise InputError(
                f"{what} {name!r} has shape {values.shape}; expected "
                f"{sent[name].shape} as in params"
            )
