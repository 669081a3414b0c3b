"""Results of audits made up for tests: real-looking arrays, hostile names."""

import math

import numpy as np

from jaxinv.audits.images import AuditResult
from jaxinv.audits.images.judge import Curve, ExamplePictures
from jaxinv.audits.recommender import AuditConfig as RecommenderConfig
from jaxinv.audits.recommender import AuditResult as RecommenderResult
from jaxinv.audits.recommender.judge import UserRatings
from jaxinv.audits.recommender.record import record
from jaxinv.data.ratings import generated_ratings
from jaxinv.models.recommenders import RatingScale

NASTY = "<script>alert('x')</script>"
NAMES = (NASTY, "Hündchen 小犬 🐶", '" onerror="alert(1)', "[red]&amp;")


def example(index=0, **changes):
    values = {
        "index": index,
        "psnr": 31.0,
        "ssim": 0.93,
        "mse": 8e-4,
        "label_true": 1,
        "label_found": 1,
        "score": 2.5e-5,
        "status": "OK",
        "oracle_psnr": 33.0,
        "identified": True,
        "rank": 0,
        "class_true": NAMES[index % 4],
        "class_found": NAMES[index % 4],
    }
    return {**values, **changes}


def fake_report(examples, **changes):
    def median(name):
        values = [e[name] for e in examples if e[name] is not None]
        return float(np.median(values)) if values else math.nan

    report = {
        "case": "images",
        "attack": "dlg",
        "attack_title": "Deep Leakage from Gradients",
        "attack_paper": "Zhu, Liu and Han, NeurIPS 2019, arXiv 1906.08935",
        "target": "lenet",
        "defense": "none",
        "defenses": [],
        "epsilon": None,
        "attacker": None,
        "attackers": [],
        "knowledge": ["labels"],
        "withheld": ["batch_stats"],
        "seed": 0,
        "restarts": 4,
        "iterations": 300,
        "batch_size": 1,
        "num_examples": len(examples),
        "device": "cpu",
        "versions": {"jaxinv": "0.1.0", "jax": "0.10.2"},
        "compile_s": 3.21,
        "run_s": 41.7,
        "restart_iterations_per_s": 115.1,
        "dataset": {"name": f"{NASTY}/größe.npz", "num_pool": 64},
        "command": f"jaxinv audit images --data '{NASTY}/größe.npz' --seed 0",
        "settings": {"case": "images", "target.width": 16, NASTY: NASTY, "tv": None},
        "interrupted": False,
        "summary": {
            "psnr_median": median("psnr"),
            "psnr_mean": median("psnr"),
            "ssim_mean": median("ssim"),
            "mse_mean": median("mse"),
            "label_accuracy": 1.0,
            "identified": float(np.mean([bool(e["identified"]) for e in examples]))
            if examples
            else None,
            "chance": 1 / 64,
            "oracle_psnr_median": median("oracle_psnr"),
            "diverged_share": 0.0,
        },
        "examples": examples,
    }
    return {**report, **changes}


def fake_result(examples=None, *, side=32, channels=3, **changes):
    """An audit's result with real-looking arrays and hostile names."""
    if examples is None:
        examples = [
            example(0),
            example(1, psnr=38.2, ssim=0.99, class_found=NASTY),
            example(2, psnr=18.0, ssim=0.31, rank=3, identified=False),
            example(3, psnr=None, ssim=math.nan, mse=math.inf, score=math.inf)
            | {"status": "DIVERGED", "identified": None, "rank": None},
        ]
    rng = np.random.default_rng(0)
    shape = (len(examples), 3, side, side, channels)
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    pictures = [
        ExamplePictures(e["index"], *triple)
        for e, triple in zip(examples, pixels, strict=True)
    ]
    steps = [1, 50, 100, 200, 300]
    curves = [
        Curve(e["index"], steps, [9.0 / 10 ** (s / 60) for s in steps], [2e-4, 5.0])
        for e in examples
    ]
    return AuditResult(fake_report(examples, **changes), pictures, curves)


def rater(user=0, **changes):
    """An entry of a recommender's report."""
    values = {
        "user": user,
        "num_ratings": 20,
        "mae": 1e-6,
        "exact": 1.0,
        "auc": 1.0,
        "embedding_error": 1e-6,
        "items_f1": 1.0,
        "gradient_loss": 1e-13,
        "status": "OK",
        "seconds": 0.01,
        "guess_mae": 0.8,
        "guess_exact": 0.2,
    }
    return {**values, **changes}


def fake_rated(users, *, config=None, data=NASTY):
    """A recommender's audit with these entries and random ratings."""
    rng = np.random.default_rng(0)
    source = generated_ratings()._replace(name=data)
    report = record(
        config or RecommenderConfig(), source, RatingScale(), 40, {}, 1.0, users
    )
    rows = [
        UserRatings(user["user"], *rng.integers(1, 11, (2, user["num_ratings"])) / 2)
        for user in users
    ]
    return RecommenderResult(report, rows)
