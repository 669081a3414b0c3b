"""Whether an update can have come from the client that a person describes.

Every check is arithmetic on the tensors; no attack runs. "impossible" is what no such
client can send, "doubtful" what is rare.
"""

from __future__ import annotations

import numpy as np

from jaxinv.exchange.client_file import ClientFile
from jaxinv.exchange.finding import Finding, Leaves, count
from jaxinv.exchange.output_layer import rank, scale, sign

_ADAM = 3.2
"""Most that an entry moves in a step of Adam, in learning rates: (1 - b1) over the root
of (1 - b2), as if all steps before had had no gradient."""


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
        found += [*sign(client, bias), *scale(client, bias)]
    if client.local is not None and client.local.optimizer == "adam":
        found += _adam(client, moved)
    kernel = moved.get(f"{owner}/kernel")
    if kernel is not None and kernel.ndim == 2:
        found += rank(client, kernel, params[f"{owner}/kernel"])
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
        f"{count(steps, 'step')} of Adam at {local.learning_rate:g}",
    )


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


def _plain(name: str) -> str:
    return name.removeprefix("params/")
