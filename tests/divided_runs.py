"""Runs whose starts are divided where there are devices; `python FILE OUT` keeps."""

import sys

import jax
import numpy as np
from small_attacks import KEY, attack, observation, swept

from jaxinv.halving import Halving
from jaxinv.run import Runner

RULE = Halving((0.25, 0.5), 0.4)
GRID = {"learning_rate": np.geomspace(0.01, 0.1, 32), "weight": np.zeros(32)}
RUNS = {
    "whole": {"num_restarts": 32, "chunk": 32, "keep": 4},
    "filled_up": {"num_restarts": 37, "chunk": 16},
    "fewer_than_devices": {"num_restarts": 3, "precision": "float64"},
    "one_start": {"num_restarts": 1},
    "halved": {"num_restarts": 37, "chunk": 16, "halving": RULE, "keep": 5},
    "interrupted": {"num_restarts": 32, "chunk": 16},
    "grid": {"num_restarts": 32, "options": GRID},
}


def outcome(name, chunk=None):
    """Arrays that say what one of `RUNS` came to, by name."""
    asked = RUNS[name] | ({} if chunk is None else {"chunk": chunk})

    def look(steps, score):
        if name == "interrupted" and steps >= 8:
            raise KeyboardInterrupt

    runner = Runner(swept if name == "grid" else certified(), num_records=4, **asked)
    seen = observation()
    run, program = runner(KEY, seen, look), runner.compile(KEY, seen)
    stats, lie = run.found.stats, program.divided
    return {
        "best": run.found.batch.inputs,
        "certified": stats.get("doubled", np.zeros(())),
        "scores": stats["scores"],
        "statuses": stats["statuses"],
        "steps_taken": stats["steps_taken"],
        "kept": stats["kept"].stats["start"],
        "curve": run.scores,
        "quartiles": run.spread.quartiles,
        "chunk": np.array(runner.chunk),
        "devices": np.array(1 if lie is None else lie.num_devices),
    }


def certified():
    """An attack that says something of its winner."""

    def certify(observation, found):
        return found.replace(stats={"doubled": 2 * found.score})

    return attack(16)._replace(certify=certify)


if __name__ == "__main__":
    found = {f"{name} {n}": x for name in RUNS for n, x in outcome(name).items()}
    with jax.default_device(jax.devices()[0]):
        found |= {f"on_one {n}": x for n, x in outcome("whole").items()}
    np.savez(sys.argv[1], **found)
