"""The batch's own statistics, from running ones that came back after one step.

Batch norm in training mode moves its running statistics by a known share m towards
those of the batch, r' = (1 - m) r + m b, so that r and r' give b: b = r + (r' - r) / m.
PyTorch keeps the variance with n - 1 in its denominator (Ioffe and Szegedy 2015,
arXiv 1502.03167, algorithm 2), flax that with n; layers normalise by the latter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxinv.errors import InputError
from jaxinv.exchange import tree
from jaxinv.exchange.client_file import ClientFile
from jaxinv.exchange.finding import Finding, Leaves, count
from jaxinv.target import Batch, Moments, Target

PYTORCH = 0.1
"""Share of the batch where nobody says another."""
_ROUNDED = 1e-4
"""How far below 0, in running variances, rounding can move the variance of a batch."""


class CameBack(NamedTuple):
    """The running statistics of both files, float arrays by path of the leaf."""

    before: Leaves
    """As they were sent."""
    after: Leaves
    """As they came back, those among them that did."""
    counted: int | None
    """Batches counted in between; None where the files count none."""
    unbiased: bool
    """Whether the running variance is that of n - 1."""


class _Layer(NamedTuple):
    """A batch-norm layer of the model, as one pass over the batch meets it."""

    numbers: int
    """n, how many numbers of a channel the moments are of."""
    share: float
    """By the model's own code."""
    calls: int


def batch_statistics(
    client: ClientFile, target: Target, params: Any, came: CameBack
) -> tuple[dict[str, Moments] | None, list[Finding]]:
    """Moments of what entered each batch-norm layer, if they follow, and the checks.

    Args:
      client: what is said of the client.
      target: the model.
      params: its parameters.
      came: what both files hold.

    Raises:
      InputError: `client.batch_stats` asks for them and they do not follow, or a
        statistic is not finite.
    """
    names = list(came.after)
    for name in names:
        for owner, leaves in (("params", came.before), ("update", came.after)):
            if not np.isfinite(leaves[name]).all():
                raise InputError(f"{owner} {name} holds NaN or infinite numbers")
    changed = any((came.before[n] != came.after[n]).any() for n in names)
    findings = [*_mode(client, came, names, changed)]
    reason = _why_not(client, came, names, changed)
    layers = {} if reason else _layers(target, params, client.examples)
    reason = reason or _why_not_of(layers, names)
    if reason:
        if client.batch_stats:
            raise InputError(f"client.batch_stats is true, but {reason}")
        if changed and client.batch_norm == "batch":
            findings.append(
                Finding("statistics", "ok", f"those of the batch stay hidden: {reason}")
            )
        return None, findings
    moments, shares = {}, set()
    for path, layer in layers.items():
        share = client.batch_norm_momentum or (
            PYTORCH if came.unbiased else layer.share
        )
        shares.add(share)
        mean, var = (
            _moved(came, f"{tree.STATISTICS}/{path}/{part}", share)
            for part in ("mean", "var")
        )
        if came.unbiased:
            var = var * (layer.numbers - 1) / layer.numbers
        scale = np.abs(came.before[f"{tree.STATISTICS}/{path}/var"]).max()
        if var.min() < -_ROUNDED * scale:
            line = f"the variance of {path} fell further than a share of {share:g} can"
            if client.batch_stats:
                raise InputError(f"client.batch_norm_momentum is wrong: {line}")
            return None, [*findings, Finding("statistics", "impossible", line)]
        moments[path] = Moments(
            jnp.asarray(mean, jnp.float32), jnp.asarray(np.maximum(var, 0), jnp.float32)
        )
    by = " and ".join(f"{share:g}" for share in sorted(shares))
    line = (
        f"mean and variance of the batch in {count(len(moments), 'layer')} follow from "
        f"the running ones, which took a share of {by}"
    )
    return moments, [*findings, Finding("statistics", "ok", line)]


def _mode(client: ClientFile, came: CameBack, names: list[str], changed: bool):
    """Whether the statistics agree with what is said of the client."""
    if client.batch_norm != "batch" and changed:
        said = '"frozen"' if client.batch_norm else "not given"
        yield Finding(
            "statistics",
            "impossible" if client.batch_norm else "doubtful",
            f"the running statistics changed and client.batch_norm is {said}: the "
            'client trained with batch_norm = "batch"',
        )
    elif client.batch_norm == "batch" and names and not changed:
        yield Finding(
            "statistics",
            "doubtful",
            "the running statistics came back as they were sent, which training by "
            "the batch's own changes",
        )
    elif client.batch_norm == "batch" and came.counted is not None:
        local = client.local
        steps = local.shape(client.examples)[0] if local is not None else 1
        if came.counted != steps:
            yield Finding(
                "statistics",
                "doubtful",
                f"batch norm counted {came.counted} batches, and client.toml says "
                f"{count(steps, 'step')}",
            )


def _why_not(
    client: ClientFile, came: CameBack, names: list[str], changed: bool
) -> str | None:
    """Why the batch's statistics do not follow, or None."""
    if client.batch_stats is False:
        return "client.batch_stats is false"
    if not names:
        return "params and update do not both hold running statistics"
    if client.batch_norm != "batch":
        return 'client.batch_norm is not "batch"'
    local = client.local
    if local is None:
        return "a gradient is not the state after a step"
    steps, size = local.shape(client.examples)
    if steps != 1 or size != client.examples:
        return (
            f"{count(steps, 'step')} of {count(size, 'example')} leave a mixture of "
            f"batches; expected one step on all {client.examples}"
        )
    if came.counted not in (None, 1):
        return f"batch norm counted {came.counted} batches; expected 1"
    return None if changed else "the running statistics did not change"


def _why_not_of(layers: dict[str, _Layer], names: list[str]) -> str | None:
    if not layers:
        return "no batch norm of a linen module was seen in the model"
    for path, layer in layers.items():
        if layer.calls > 1:
            return f"{path} takes {layer.calls} batches in one step"
        for part in ("mean", "var"):
            if f"{tree.STATISTICS}/{path}/{part}" not in names:
                return f"the files do not both hold the {part} of {path}"
    return None


def _moved(came: CameBack, name: str, share: float) -> np.ndarray:
    before, after = (
        np.asarray(leaves[name], np.float64) for leaves in (came.before, came.after)
    )
    return before + (after - before) / share


def _layers(target: Target, params: Any, num: int) -> dict[str, _Layer]:
    """Every batch-norm layer of a linen model by its path; nothing is computed."""
    seen: dict[str, _Layer] = {}

    def read(next_call, args, kwargs, context):
        module = context.module
        if context.method_name == "__call__" and isinstance(module, nn.BatchNorm):
            path, shape = "/".join(module.path), args[0].shape
            calls = seen[path].calls + 1 if path in seen else 1
            numbers = int(np.prod(shape[:-1]))
            seen[path] = _Layer(numbers, 1 - float(module.momentum), calls)
        return next_call(*args, **kwargs)

    batch: Any = Batch(
        jax.ShapeDtypeStruct((num, *target.spec.shape), jnp.float32),  # pyright: ignore
        jax.ShapeDtypeStruct((num,), jnp.int32),  # pyright: ignore
    )
    with nn.intercept_methods(read):
        # A function of its own, for a traced one is not traced again.
        jax.eval_shape(lambda p, b: target.loss(p, b), params, batch)
    return seen
