"""The model here against the model in PyTorch: one made-up batch through both.

Outputs are compared layer by layer, so that a wrong map says where it is wrong, then
the gradient of the cross-entropy, mapped as an update is.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from flax import linen as nn

from jaxinv.errors import InputError
from jaxinv.exchange import tree
from jaxinv.exchange.client_file import ClientFile
from jaxinv.exchange.layout import Layout
from jaxinv.exchange.model_file import named_in, run_file, said
from jaxinv.release import gradient
from jaxinv.target import Batch, Target

TOLERANCE = 1e-3
"""Largest difference, over the largest number; float32 leaves about 1e-5."""
_BATCH = 4


def compare(
    name: str,
    target: Target,
    params: Any,
    layout: Layout,
    sent: dict[str, np.ndarray],
    client: ClientFile,
) -> str:
    """Runs both models and refuses where they differ.

    Args:
      name: `FILE.py:NAME`, a PyTorch module, its class, or a function that makes one.
      target: the model here.
      params: its parameters, mapped.
      layout: the map.
      sent: the same parameters as the file has them.
      client: for the example's shape and the mode of batch norm.

    Returns:
      What agreed, for the report.

    Raises:
      InputError: PyTorch is missing, the module cannot be made or run, or the two
        models differ; the message names the first layer that does.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            "torch_model needs PyTorch, which is not installed here; expected "
            "pip install torch, or no --torch-model"
        ) from None
    module = _module(torch, name, sent, client)
    rng = np.random.default_rng(0)
    shape, classes = target.spec.shape, target.spec.num_classes
    inputs = rng.normal(size=(_BATCH, *shape)).astype(np.float32)
    labels = rng.integers(classes, size=_BATCH)
    theirs = _Recorded({})
    first = np.moveaxis(inputs, -1, 1) if len(shape) > 1 else inputs
    hooks = [
        part.register_forward_hook(theirs.hook(path))
        for path, part in module.named_modules()
        if path
    ]
    path = name.rpartition(":")[0]
    try:
        logits = module(torch.tensor(np.ascontiguousarray(first)))
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
        loss.backward()
    except Exception as error:
        raise InputError(
            f"torch_model {name} fails on a batch of shape {first.shape}: "
            f"{said(error, path)}"
        ) from None
    for hook in hooks:
        hook.remove()
    batch = Batch(jax.numpy.asarray(inputs), jax.numpy.asarray(labels, np.int32))
    ours = _outputs(target, params, batch)
    worst = _first_layer(layout, theirs.outputs, ours)
    here = float(target.loss(params, batch))
    _refuse_unless_close("the loss", np.asarray(here), loss.detach().numpy())
    slopes = {
        n: p.grad.numpy() for n, p in module.named_parameters() if p.grad is not None
    }
    mapped = layout.of_model(slopes, "the gradient in PyTorch", partial=True)
    found = tree.named(gradient(target.loss)(jax.random.key(0), params, batch))
    for leaf, value in mapped.items():
        plain = leaf.removeprefix("params/")
        _refuse_unless_close(
            f"the gradient of {plain!r}", np.asarray(found[leaf]), value
        )
    layers = f"{len(worst)} layers, " if worst else ""
    largest = max([*worst, 0.0])
    text = f" (layers differ by at most {largest:.1e})" if worst else ""
    return f"{layers}the loss and the gradient agree with {name} in PyTorch{text}"


def _module(torch: Any, name: str, sent: dict[str, np.ndarray], client: ClientFile):
    path, colon, attribute = name.rpartition(":")
    if not colon:
        raise InputError(f"torch_model is {name!r}; expected FILE.py:NAME")
    found = named_in(run_file(path, "torch_model"), attribute, path)
    try:
        module = found if isinstance(found, torch.nn.Module) else found()
        # Copies: the arrays of a file cannot be written to.
        state = {n: torch.tensor(np.array(v, _as_torch(v))) for n, v in sent.items()}
        module.load_state_dict(state, strict=True)
    except Exception as error:
        raise InputError(f"torch_model {name}: {said(error, path)}") from None
    module.float()
    return module.eval() if client.batch_norm != "batch" else module.train()


def _as_torch(values: np.ndarray) -> Any:
    return values.dtype if values.dtype.kind in "iub" else np.float32


class _Recorded:
    """Outputs of modules, the first call of each, channels last."""

    def __init__(self, outputs: dict[str, np.ndarray]) -> None:
        self.outputs = outputs

    def hook(self, path: str):
        def record(module, args, output):
            if hasattr(output, "detach") and path not in self.outputs:
                values = output.detach().numpy()
                self.outputs[path] = (
                    np.moveaxis(values, 1, -1) if values.ndim > 3 else values
                )

        return record


def _outputs(target: Target, params: Any, batch: Batch) -> dict[str, np.ndarray]:
    """Outputs by path of the modules of a linen model, in the order of its calls."""
    seen: dict[str, np.ndarray] = {}

    def read(next_call, args, kwargs, context):
        out = next_call(*args, **kwargs)
        path = "/".join(context.module.path)
        if context.method_name == "__call__" and path and isinstance(out, jax.Array):
            seen.setdefault(path, np.asarray(out))
        return out

    with nn.intercept_methods(read):
        target.loss(params, batch)
    return seen


def _first_layer(
    layout: Layout, theirs: dict[str, np.ndarray], ours: dict[str, np.ndarray]
) -> list[float]:
    """How far each layer's outputs differ, or a refusal at the first that does."""
    twin = {
        pair.ours.partition("/")[2].rpartition("/")[0]: pair.theirs.rpartition(".")[0]
        for pair in layout.pairs
    }
    found = []
    for path, values in ours.items():
        other = theirs.get(twin.get(path, ""))
        if other is not None:
            label = f"the output of layer {path!r} ({twin[path]!r} in PyTorch)"
            found.append(_refuse_unless_close(label, values, other))
    return found


def _refuse_unless_close(what: str, ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape:
        raise InputError(
            f"the model differs from that in PyTorch: {what} has shape {ours.shape} "
            f"here and {theirs.shape} there; correct the model, or [names] in "
            "client.toml"
        )
    scale = max(float(np.abs(theirs).max()), 1e-6) if theirs.size else 1.0
    worst = float(np.abs(ours - theirs).max()) / scale if theirs.size else 0.0
    if not worst <= TOLERANCE:
        raise InputError(
            f"the model differs from that in PyTorch: {what} is off by "
            f"{100 * worst:.2g} % of its largest number; correct the model, [names] or "
            "[flatten] in client.toml"
        )
    return worst
