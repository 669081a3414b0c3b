"""The walls of the house: who may import whom, and what the tree may not hold."""

import ast
from pathlib import Path

import jaxinv_kernels
import pytest

import jaxinv

PACKAGE = Path(jaxinv.__file__).parent
KERNELS = Path(jaxinv_kernels.__file__).parent

# A room may import from rooms on its own floor's list only; errors are open to all.
# Floors from the ground up, as the design's sentence is read.
FLOORS = [
    {"errors", "interrupt"},
    {"graph"},
    {"isomorphism"},
    {"options", "target", "data", "memory", "adam"},
    {"adapters", "layers", "second_order", "metrics", "local_training"},
    {"factored"},
    {"release", "similarity"},
    {"defenses"},
    {"received"},
    {"observation", "models", "fedavg"},
    {"matching", "priors", "space", "rounds"},
    {"objective"},
    {"attacks"},
    {"precision", "halving", "history", "hardening"},
    {"client", "federation", "transit"},
    {"program"},
    {"population"},
    {"run", "exchange"},
    {"audits"},
    {"sweeps"},
    {"reports", "cache"},
    {"flower"},
    {"cli"},
    {"__main__", "__init__"},
]
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def imports_of(path: Path) -> set[str]:
    """Absolute module names that a file imports, under TYPE_CHECKING or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_down(path):
    room = room_of(path)
    assert room in LEVEL, f"{room} has no floor: give it one in FLOORS"
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "jaxinv" or len(parts) < 2 or parts[1] == room:
            continue
        if parts[1] in LEVEL:
            below = LEVEL[parts[1]] < LEVEL[room]
            assert below, f"{path.name} ({room}) imports {name}, which is not below it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_attacks_never_see_the_truth(path):
    if LEVEL[room_of(path)] <= LEVEL["run"] and room_of(path) != "metrics":
        assert not any(n.startswith("jaxinv.metrics") for n in imports_of(path))


def test_kernels_never_import_jaxinv():
    for path in KERNELS.rglob("*.py"):
        names = {name.split(".")[0] for name in imports_of(path)}
        assert "jaxinv" not in names, path
        assert names <= {"jax", "jaxinv_kernels", "__future__", *STDLIB}, path


STDLIB = {
    "collections",
    "contextlib",
    "contextvars",
    "dataclasses",
    "functools",
    "itertools",
    "math",
    "typing",
}


def test_no_room_for_odds_and_ends():
    names = {path.stem for path in [*FILES, *KERNELS.rglob("*.py")]}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


def test_nothing_loads_a_pickle():
    for path in FILES:
        assert not imports_of(path) & {"pickle", "dill", "cloudpickle", "shelve"}, path
        assert "allow_pickle=True" not in path.read_text(encoding="utf-8"), path
