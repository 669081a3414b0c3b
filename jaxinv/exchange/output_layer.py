"""What the output layer's update says of the client, by arithmetic.

The checks of the bias hold for softmax and cross-entropy with whole labels: the slope
at a logit is the mean of p - y, so it is positive for every class that the batch lacks,
adds up to zero over the classes, and to at most 2 in absolute value.
"""

from __future__ import annotations

import numpy as np

from jaxinv.exchange.client_file import ClientFile
from jaxinv.exchange.finding import Finding, count

_LARGEST = 2048
"""Longer side of a matrix whose rank is taken."""


def sign(client: ClientFile, bias: np.ndarray):
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


def scale(client: ClientFile, bias: np.ndarray):
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
        words = f"{count(steps, 'step')} of {local.learning_rate:g}"
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


def rank(client: ClientFile, kernel: np.ndarray, weights: np.ndarray):
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
    found = int((values > floor).sum())
    text = f"the output layer's update has rank {found}, of at most {limit} by"
    text += f" the {size} examples of each of {steps} steps" if steps > 1 else ""
    text += "" if steps > 1 else f" {count(size, 'example')}"
    yield Finding("rank", "ok" if found <= limit else "doubtful", text)
