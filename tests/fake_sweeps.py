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
        "diverged": 0,
        "gave_up": 0,
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
        "case": "sweep",
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
        "ceiling": 50.0,
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
