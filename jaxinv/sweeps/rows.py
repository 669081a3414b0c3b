"""What a finished job becomes: a row for each of its examples."""

from __future__ import annotations

import io
import json
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from jaxinv.attacks.base import Reconstruction
from jaxinv.population import Run
from jaxinv.sweeps.plan import Job
from jaxinv.sweeps.store import COLUMNS


class Winner(NamedTuple):
    """The best start of a job so far, and what is known of the others."""

    found: Reconstruction
    """On the host."""
    scores: list[float]
    """Of the starts that have ended, in their order; infinite for one that diverged."""
    statuses: list[int]


def better(before: Winner | None, found: Reconstruction) -> Winner:
    """The winner after one more start has ended."""
    score = float(found.score)
    score = np.inf if np.isnan(score) else score
    old = before or Winner(found, [], [])
    first = before is None or score < min(old.scores)
    return Winner(
        found if first else old.found,
        [*old.scores, score],
        [*old.statuses, int(found.status)],
    )


def rows_of(job: Job, winner: Winner, *, pictures: bool) -> list[dict[str, Any]]:
    """Judges a job's winner, one row for each example; see `store.COLUMNS`.

    Args:
      job: which one.
      winner: of all its starts.
      pictures: whether the rows hold the images.
    """
    config = job.point.config
    kept = jax.tree.map(lambda leaf: np.asarray(leaf)[None], winner.found)
    found = winner.found.replace(  # pyright: ignore
        stats={
            "kept": kept,
            "scores": np.asarray(winner.scores),
            "statuses": np.asarray(winner.statuses),
        }
    )
    none = np.zeros(0)
    run = Run(found, none, none, 0.0, False)
    judged = job.scene.judge(job.examples, run)
    about = {
        "job": job.number,
        "case": job.point.label,
        "target": str(config.target),
        "data": job.scene.data.name,
        "defense": job.point.defense,
        "attack": config.attack,
        "attacker": job.threat.name,
        "options": options_text(job),
        "seed": config.seed,
        "batch": job.batch,
        "batch_size": config.batch_size,
        "restarts": len(winner.scores),
        "iterations": config.iterations,
        "scores": winner.scores,
        "statuses": winner.statuses,
    }
    rows = []
    for example, images in zip(judged.examples, judged.pictures, strict=True):
        row = dict.fromkeys(COLUMNS) | about
        row |= {name: value for name, value in example.items() if name in COLUMNS}
        if pictures:
            row |= {"true": _png(images.true), "recovered": _png(images.found)}
        rows.append(row)
    return rows


def options_text(job: Job) -> str:
    """What the job's case and attack set, as JSON that sorts."""
    return json.dumps(job.point.options(), sort_keys=True, default=str)


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(
        stream, "png"
    )
    return stream.getvalue()
