"""Whether an update can have come from the client that a person describes.

Every check is arithmetic on the tensors; no attack runs. "impossible" is what no such
client can send, "doubtful" what is rare. The checks of the output layer hold for
softmax and cross-entropy with whole labels: the slope at a logit is the mean of p - y,
so it is positive for every class that the batch lacks, adds up to zero over the
classes, and to at most 2 in absolute value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxinv.exchange.client_file import ClientFile

VERDICTS = ("ok", "doubtful", "impossible")

_ADAM = 3.2
"""Most that an entry moves in a step of Adam, in learning rates: (1 - b1) over the root
of (1 - b2), as if all steps before had had no gradient."""
_LARGEST = 2048
"""Longer side of a matrix whose rank is taken."""


class Finding(NamedTuple):
    """One check and what came of it."""

    check: str
    """Which: "finite", "changed", "kind", "sign", "scale", "rank", "digits"."""
    verdict: str
    """One of `VERDICTS`."""
    line: str
    """What was found, in one line."""


Leaves = Mapping[str, np.ndarray]


def plausible(
    client: ClientFile,
    params: Leaves,
    update: Leaves,
    *,
    head: tuple[str, ...] | None = None,
    cross_entropy: bool = True,
) -> list[Finding]:
    """Every check that applies.

    Args:
      client: what is said of the client.
      params: trained leaves by path, "params/...", as they were sent.
      update: the same of what came back.
      head: path of the output layer, if known.
      cross_entropy: whether the loss is known to be one.
    """
    found = [*_finite(params, update)]
    if any(f.verdict == "impossible" for f in found):
        return found
    moved = {
        name: values.astype(np.float64)
        - (params[name] if client.sent == "weights" else 0)
        for name, values in update.items()
    }
    found += [*_changed(client, moved), *_kind(client, params, update)]
    if any(f.verdict == "impossible" for f in found):
        return found
    owner = "/".join(("params", *head)) if head else None
    bias = moved.get(f"{owner}/bias")
    if bias is not None and cross_entropy and bias.shape == (client.spec.num_classes,):
        found += [*_sign(client, bias), *_scale(client, bias)]
    if client.local is not None and client.local.optimizer == "adam":
        found += _adam(client, moved)
    kernel = moved.get(f"{owner}/kernel")
    if kernel is not None and kernel.ndim == 2:
        found += _rank(client, kernel, params[f"{owner}/kernel"])
    found += _digits(client, params, update)
    if client.defenses:
        found = [_softer(f) for f in found]
    return found


def _finite(params: Leaves, update: Leaves):
    for owner, tree in (("params", params), ("update", update)):
        for name, values in tree.items():
            # As JAX will hold it: float64 can overflow on its way to float32.
            with np.errstate(over="ignore"):
                bad = int(values.size - np.isfinite(values.astype(np.float32)).sum())
            if bad:
                yield Finding(
                    "finite",
                    "impossible",
                    f"{owner} {_plain(name)} holds {bad} NaN or infinite numbers",
                )


def _changed(client: ClientFile, moved: Leaves):
    still = [_plain(name) for name, values in moved.items() if not values.any()]
    if len(still) == len(moved):
        same = "equals the parameters" if client.sent == "weights" else "is all zero"
        yield Finding(
            "changed", "impossible", f"the update {same}: nothing was trained"
        )
    elif still:
        shown = ", ".join(still[:3]) + (" and others" if len(still) > 3 else "")
        yield Finding(
            "changed",
            "doubtful",
            f"{len(still)} of {len(moved)} tensors did not change: {shown}",
        )
    else:
        yield Finding("changed", "ok", f"all {len(moved)} tensors changed")


def _kind(client: ClientFile, params: Leaves, update: Leaves):
    """New weights lie where the weights were; gradients and deltas do not."""
    kernels = [n for n in update if update[n].ndim > 1] or list(update)
    before, after = (
        np.concatenate([np.asarray(t[n], np.float64).ravel() for n in kernels])
        for t in (params, update)
    )
    norms = np.linalg.norm(before), np.linalg.norm(after)
    cosine = float(before @ after / max(norms[0] * norms[1], 1e-300))
    line = f"the cosine between what was sent and what came back is {cosine:.3f}"
    if client.sent == "weights" and cosine < 0.3:
        yield Finding(
            "kind",
            "impossible",
            f"{line}: no weights after training, more likely a gradient or a delta",
        )
    elif client.sent != "weights" and cosine > 0.9:
        yield Finding(
            "kind",
            "impossible",
            f"{line}: this is no {client.sent}, more likely the new weights",
        )
    else:
        yield Finding("kind", "ok", line)


def _sign(client: ClientFile, bias: np.ndarray):
    """Classes that the batch lacks have a positive slope; weights move against it."""
    slope = bias if client.sent == "gradient" else -bias
    other = "a delta or new weights" if client.sent == "gradient" else "a gradient"
    # Rounding alone decides the sign of what is this small.
    small = 1e-5 * np.abs(slope).max()
    falls, rises = int((slope < -small).sum()), int((slope > small).sum())
    classes, limit = len(slope), client.examples
    if client.labels is not None:
        absent = np.setdiff1d(np.arange(classes), client.labels)
        wrong = [int(k) for k in absent if slope[k] < -small]
        if not len(absent):
            return
        if len(wrong) == len(absent):
            text = f"its sign is that of {other}, or the labels are others"
            yield Finding("sign", "impossible", f"output bias: {text}")
        elif wrong:
            text = f"class {wrong[0]} must have been in the batch, and no label says so"
            yield Finding("sign", "impossible", f"output bias: {text}")
        else:
            text = "classes that no label names have the sign of an absent class"
            yield Finding("sign", "ok", f"output bias: {text}")
    elif falls > limit and rises <= limit:
        text = f"{falls} of {classes} classes fall: its sign is that of {other}"
        yield Finding("sign", "impossible", f"output bias: {text}")
    elif falls > limit:
        text = f"{falls} classes must have been in the batch, of {limit} examples"
        yield Finding("sign", "impossible", f"output bias: {text}")
    else:
        text = f"{falls} of {classes} classes have the sign of one that is present"
        yield Finding("sign", "ok", f"output bias: {text}")


def _scale(client: ClientFile, bias: np.ndarray):
    """Slopes of the logits add up to 0, and to at most 2 without their signs."""
    total, size = float(bias.sum()), float(np.abs(bias).sum())
    local = client.local
    if local is not None and local.optimizer == "adam":
        return
    if abs(total) > 0.02 * size:
        yield Finding(
            "scale",
            "doubtful",
            f"output bias: sums to {total:.2g} of {size:.2g}, a cross-entropy's to 0: "
            "weight decay, another loss, or a defence",
        )
    per_step = client.examples
    unit, words = 1.0, "a gradient of the mean loss"
    if local is not None:
        steps, per_step = local.shape(client.examples)
        unit = local.travel(client.examples)
        words = f"{_count(steps, 'step')} of {local.learning_rate:g}"
    if client.reduction == "sum":
        unit, words = unit * per_step, f"{words}, summed over {per_step} examples"
    share = size / (2 * unit)
    if share > 1.001:
        likely = "a loss that is summed, a larger learning rate or more steps"
        yield Finding(
            "scale",
            "impossible",
            f"output bias: moved {share:.3g} times as far as {words} can: {likely}",
        )
    elif share < 1e-4:
        yield Finding(
            "scale",
            "doubtful",
            f"output bias: moved {share:.1e} of what {words} can at most: a model that "
            "fits its data, or a smaller learning rate",
        )
    else:
        text = f"output bias: moved {share:.2g} of what {words} can at most"
        if local is not None:
            least = share * local.learning_rate
            text += f"; the learning rate was at least {least:.2g}"
        yield Finding("scale", "ok", text)


def _adam(client: ClientFile, moved: Leaves):
    local = client.local
    assert local is not None
    steps, _ = local.shape(client.examples)
    largest = max(float(np.abs(values).max()) for values in moved.values())
    most = local.learning_rate * (1.001 if steps == 1 else _ADAM * steps)
    verdict = "ok" if largest <= most else "impossible"
    yield Finding(
        "scale",
        verdict,
        f"the largest change is {largest:.3g}, of at most {most:.3g} by "
        f"{_count(steps, 'step')} of Adam at {local.learning_rate:g}",
    )


def _rank(client: ClientFile, kernel: np.ndarray, weights: np.ndarray):
    """Each example adds an outer product to a dense layer's gradient, each step."""
    if max(kernel.shape) > _LARGEST or (
        client.local and client.local.optimizer == "adam"
    ):
        return
    steps, size = (
        client.local.shape(client.examples) if client.local else (1, client.examples)
    )
    limit = steps * size
    if limit >= min(kernel.shape):
        return
    values = np.linalg.svd(kernel, compute_uv=False)
    # New weights were rounded where the weights are, not where the delta is.
    noise = np.finfo(np.float32).eps * np.sqrt(max(kernel.shape))
    held = np.abs(weights).max() if client.sent == "weights" else 0.0
    floor = noise * max(4 * values[0], held * np.sqrt(min(kernel.shape)))
    rank = int((values > floor).sum())
    text = f"the output layer's update has rank {rank}, of at most {limit} by"
    text += f" the {size} examples of each of {steps} steps" if steps > 1 else ""
    text += "" if steps > 1 else f" {_count(size, 'example')}"
    yield Finding("rank", "ok" if rank <= limit else "doubtful", text)


def _digits(client: ClientFile, params: Leaves, update: Leaves):
    """How coarsely it was rounded on its way."""
    for name, bits in (("bfloat16", 16), ("float16", 13)):
        kernels = [v for v in update.values() if v.size > 16]
        if kernels and all(_coarse(v, bits) for v in kernels):
            yield Finding(
                "digits",
                "doubtful",
                f"every number has the digits of {name}: what that drops is lost to "
                "the attack, and to the audit",
            )
            break
    if client.sent == "weights":
        same = sum(int((update[n] == params[n]).sum()) for n in update)
        share = same / sum(v.size for v in update.values())
        if share > 0.25:
            yield Finding(
                "digits",
                "doubtful",
                f"{100 * share:.0f} % of the weights did not move in their digits",
            )


def _coarse(values: np.ndarray, bits: int) -> bool:
    """Whether the last bits of float32 are all zero."""
    raw = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return not (raw & ((1 << bits) - 1)).any()


def _softer(finding: Finding) -> Finding:
    """Behind a defence signs and sizes are no longer what a loss makes them."""
    hard = finding.check in ("finite", "changed", "kind")
    if hard or finding.verdict != "impossible":
        return finding
    return finding._replace(verdict="doubtful")


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _plain(name: str) -> str:
    return name.removeprefix("params/")
