"""A sweep's record without a sweep, with hostile names."""

import io

import numpy as np
from fakes import NASTY, fake_result
from PIL import Image

from jaxinv.sweeps.record import Swept


def png(side=8):
    stream = io.BytesIO()
    Image.fromarray(np.arange(side * side, dtype=np.uint8).reshape(side, side)).save(
        stream, "png"
    )
    return stream.getvalue()


def line(**changes):
    values = {
        "case": NASTY,
        "target": "mlp",
        "defense": "none",
        "attack": "dlg",
        "attacker": "blind",
        "options": {"attack.tv": 0.1},
        "varied": ["attack.tv=0.1"],
        "examples": 6,
        "seeds": 2,
        "psnr": 30.0,
        "psnr_interval": [28.0, 32.0],
        "psnr_best": 33.0,
        "ssim": 0.9,
        "chance": 0.01,
        "identified": 6,
        "labels": 0.5,
        "statuses": {"OK": 6},
    }
    values |= changes
    named = ("case", "defense", "attack", "attacker")
    name = ", ".join([*(values[n] for n in named), *values["varied"]])
    return {"name": name, **values}


def row(number, **changes):
    values = {
        "job": number,
        "case": NASTY,
        "target": "mlp",
        "data": NASTY,
        "defense": "none",
        "attack": "dlg",
        "attacker": "blind",
        "seed": 0,
        "index": number,
        "psnr": 30.0 + number,
        "ssim": None,
        "rank": 0,
        "score": 0.1 / (1 + number),
        "status": "OK",
    }
    return values | changes


OF_AUDITS = {
    "recommender": (
        {"exact": 0.9, "exact_interval": [0.8, 1.0], "whole": 3, "mae": 0.05}
        | {"guess_mae": 0.8, "guess_exact": 0.3, "f1": None, "items_f1": 1.0}
        | {"underdetermined": 0, "guess_exact_mean": 0.3},
        {"exact": 1.0, "mae": 0.0, "guess_mae": 0.8, "f1": None, "num_ratings": 20},
    ),
    "molecules": (
        {"exact": 0.5, "exact_interval": [0.2, 0.8], "in_class": 0.75, "unique": 3}
        | {"wrong_unique": 0, "gsm0": 0.9, "gsm1": 0.8, "gsm2": 0.7},
        {"exact": True, "in_class": True, "class_size": 1, "complete": True}
        | {"wrong_unique": False, "name": NASTY, "num_nodes": 9, "gsm1": 1.0}
        | {"status": "unique"},
    ),
}
OF_AUDITS["citations"] = OF_AUDITS["molecules"]
"""What a line and a row hold instead of the numbers of images."""


def fake_other(audit, seed=0):
    """A sweep of another audit than images."""
    of_line, of_row = OF_AUDITS[audit]
    images = ("psnr", "psnr_interval", "psnr_best", "ssim", "chance", "identified")
    kept = {k: v for k, v in line().items() if k not in (*images, "labels")}
    lines = [kept | of_line, kept | of_line | {"case": "b", "name": f"b {seed}"}]
    swept = fake_swept(lines, seed, audit=audit, case=f"sweep of {audit}", unit="user")
    rows = [
        {k: v for k, v in row(i).items() if k not in ("psnr", "ssim", "rank")} | of_row
        for i in range(4)
    ]
    return swept._replace(rows=rows, pictures=[])


def fake_swept(lines=None, seed=0, **changes):
    if lines is None:
        lines = [
            line(psnr=30.0 + seed),
            line(defense=f"pruning:rate=0.9 {NASTY}", psnr=9.0, identified=0, ssim=0.1),
            line(
                defense="sign", psnr=None, psnr_interval=None, identified=0, ssim=None
            ),
        ]
    facts = ("command", "versions", "device", "run_s", "compile_s")
    report = {
        **{k: v for k, v in fake_result([]).report.items() if k in facts},
        "case": "sweep of images",
        "audit": "images",
        "unit": "example",
        "attack": "dlg",
        "attack_title": "DLG",
        "attack_paper": "Zhu et al.",
        "target": "mlp",
        "defense": NASTY,
        "knowledge": ["labels"],
        "withheld": [],
        "lines": lines,
        "jobs": 9,
        "jobs_done": 6,
        "num_examples": 6,
        "seeds": [0, 1],
        "devices": 2,
        "restart_iterations": 12345,
        "dataset": {"name": NASTY},
        "settings": {"seeds": [0, seed]},
        "notes": [f"device was {NASTY}"],
        "interrupted": True,
    }
    rows = [row(i) for i in range(6)] + [row(6, psnr=None, score=None)]
    pictures = [row(i, true=png(), recovered=png()) for i in range(2)] if lines else []
    return Swept(report | changes, rows if lines else [], pictures)
