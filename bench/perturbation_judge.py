"""How reconstructions are judged, and when two defences may be compared.

Comparisons are made at matched utility: two defences whose clients' accuracies differ
by a point or more are refused, for the one that costs more can always hide more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv import metrics
from jaxinv.errors import InputError

MATCHED = 0.01
"""Accuracies that differ by less are matched."""
BASELINES = ("autoencoder", "noise", "pruning")
"""What the learned perturbation is compared with."""
ASKED_MSE, ASKED_POINTS = 0.124, 12.5
"""What the abstract claims: how much higher the error, how much lower the accuracy."""


def judged(
    truth: jax.Array,
    trained_on: jax.Array,
    found: jax.Array,
    labels: jax.Array,
    judge: Callable[[jax.Array], jax.Array],
) -> dict[str, Any]:
    """One attack on one defence, with intervals over the images.

    Args:
      truth: `[N, H, W, C]` pixels, the clients' images.
      trained_on: likewise, what the clients' gradients were of.
      found: likewise, reconstructions; one that is not finite counts as mid-grey.
      labels: `[N]`.
      judge: pixels to logits, of a classifier trained on clean images.
    """
    found = jnp.where(jnp.isfinite(found), jnp.clip(found, 0, 1), 0.5)
    # dm_pix broadcasts kernels over channels; float32 arrays all.
    columns = {
        "mse": metrics.mse(truth, found),
        "mse_perturbed": metrics.mse(trained_on, found),
        "psnr": metrics.psnr(truth, found),
        "ssim": metrics.ssim(truth, found),
        "attacker_accuracy": jnp.argmax(judge(found), 1) == labels,
    }
    row: dict[str, Any] = {"images": len(truth)}
    for name, values in columns.items():
        values = np.asarray(values, np.float64)
        row[name] = float(values.mean())
        row[f"{name}_interval"] = interval(values)
    row["each_mse"] = [round(float(x), 6) for x in np.asarray(columns["mse"])]
    return row


def interval(values: np.ndarray, draws: int = 2000) -> list[float]:
    """95 % of the bootstrap of the mean, resampling images."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(1)
    return [float(x) for x in np.quantile(means, (0.025, 0.975))]


def check_matched(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Refuses two defences whose clients' accuracies are not matched.

    Args:
      one: "defence" and "accuracy" in [0, 1] among its entries.
      other: likewise.

    Raises:
      InputError: the accuracies differ by a point or more.
    """
    apart = abs(one["accuracy"] - other["accuracy"])
    if not apart < MATCHED:
        raise InputError(
            f"accuracy of {one['defence']} is {one['accuracy']:.3f} and of "
            f"{other['defence']} {other['accuracy']:.3f}; expected them to differ by "
            "less than a point, or the comparison is of utility"
        )


def compared(defence: dict[str, Any], baseline: dict[str, Any]) -> dict[str, Any]:
    """A defence against a baseline, under one attack.

    Args:
      defence: "defence", "accuracy", "mse", "each_mse", "attacker_accuracy".
      baseline: likewise, of the same images in the same order.

    Returns:
      How much higher the error is, as a share of the baseline's, with its interval
      over the images; how many points lower the attacker's accuracy is, and as a share.

    Raises:
      InputError: their accuracies are not matched.
    """
    check_matched(defence, baseline)
    own, other = (np.asarray(row["each_mse"]) for row in (defence, baseline))
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(own), (2000, len(own)))
    ratios = own[drawn].mean(1) / other[drawn].mean(1) - 1
    gain = float(own.mean() / other.mean() - 1)
    before, after = baseline["attacker_accuracy"], defence["attacker_accuracy"]
    points = 100 * (before - after)
    return {
        "defence": defence["defence"],
        "baseline": baseline["defence"],
        "mse_gain": gain,
        "mse_gain_interval": [float(x) for x in np.quantile(ratios, (0.025, 0.975))],
        "points_lower": points,
        "share_lower": (before - after) / before if before else 0.0,
        "both_claims": gain >= ASKED_MSE and points >= ASKED_POINTS,
    }


def better(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The baseline under which reconstructions are worst."""
    return max(rows, key=lambda row: row["mse"])


def comparisons(rows: Sequence[dict[str, Any]]) -> tuple[list[Any], list[str]]:
    """The learned perturbation against every baseline that it may be compared with.

    Args:
      rows: of all attacks on all defences.

    Returns:
      A line for each attack and matched baseline, the better one marked, and the
      refusals.
    """
    found, refused = [], []
    for attack in dict.fromkeys(row["attack"] for row in rows):
        own = {row["defence"]: row for row in rows if row["attack"] == attack}
        fit = []
        for name in [n for n in BASELINES if n in own]:
            try:
                check_matched(own["learned"], own[name])
                fit.append(own[name])
            except InputError as error:
                refused.append(f"{attack}: {error}")
        best = better(fit)["defence"] if fit else None
        for row in fit:
            line = compared(own["learned"], row)
            found.append({"attack": attack, **line, "better": row["defence"] == best})
    return found, refused
