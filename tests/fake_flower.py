"""Journals of a federation without one, with hostile names, and the report of them."""

from fakes import NASTY

SETTINGS = {"attack": NASTY, "inputs": [8, 8, 1], "classes": 10, NASTY: NASTY}


def reply(number=1, node="7", **changes):
    """What both sides made of one client's reply."""
    side = {"status": "OK", "score": 1e-9, "seconds": 0.5, "compile_s": 0.1}
    side["reason"] = ""
    values = {
        "round": number,
        "node": node,
        "server": dict(side),
        "client": dict(side),
        "num_examples": 2,
        "psnr": [50.0, 30.0],
        "ssim": [None, None],
        "identified": 1.0,
        "chance": 0.01,
        "refused": False,
    }
    return {**values, **changes}


def summary(replies, **changes):
    """Numbers that a page shows; they need not fit the replies."""
    values = {
        "replies": len(replies),
        "clients": 2,
        "examples": sum(len(r["psnr"] or []) for r in replies),
        "exact": 1,
        "recognisable": 1,
        "traces": 0,
        "nothing": 0,
        "psnr_best": 50.0,
        "psnr_median": 40.0,
        "score_best": 1e-9,
        "not_sent": 0,
        "refused": 0,
        "failed": 0,
    }
    return {**values, **changes}


def fake_federation(replies=None, seed=0, **changes):
    """The record of a federation of two rounds."""
    if replies is None:
        told = {"status": NASTY, "score": None, "seconds": None, "compile_s": 0.0}
        replies = [
            reply(1, psnr=[50.0 - seed, 30.0]),
            reply(1, NASTY, psnr=[9.0, None], identified=0.5, refused=True),
            reply(2, server={**told, "reason": NASTY}),
            reply(2, NASTY, client=None, psnr=None, ssim=None, identified=None),
        ]
    rounds = sorted({r["round"] for r in replies})
    grouped = [[r for r in replies if r["round"] == n] for n in rounds]
    return {
        "case": "flower",
        "run": "12",
        "attack": NASTY,
        "attack_title": None,
        "model": NASTY,
        "defense": None,
        "dataset": {"name": "the clients' own"},
        "knowledge": ["local_training"],
        "settings": SETTINGS,
        "versions": {"jax": "0"},
        "device": NASTY,
        "command": f"flwr run {NASTY}",
        "compile_s": 0.4,
        "run_s": 1.6,
        "interrupted": False,
        "clients": list(dict.fromkeys(r["node"] for r in replies)),
        "replies": replies,
        "rounds": [
            {"round": n, **summary(group)}
            for n, group in zip(rounds, grouped, strict=True)
        ],
        "summary": summary(replies, refused=1, failed=1),
    } | changes
