"""The README's snippet on Flower runs, and what it makes audits a federation."""

import re
from pathlib import Path

import pytest
from flwr.serverapp.strategy import FedAvg

import jaxinv
from jaxinv.flower import arrays_of
from jaxinv.flower.reading import read_journals

README = Path(__file__).parents[2] / "README.md"


def test_the_snippet_audits_a_federation(world, tmp_path, monkeypatch):
    if not README.exists():
        pytest.skip("no README beside the tests")
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    (snippet,) = [one for one in found if "flower.Audit(" in one]
    names = {
        "jaxinv": jaxinv,
        "target": world.target,
        "spec": world.target.spec,
        "params": world.params,
        "my_batch": world.truth,
    }
    exec(snippet, names)
    assert isinstance(names["strategy"].strategy, FedAvg)
    names["strategy"].strategy.fraction_evaluate = 0.0
    mods = names["app"]._mods
    grid = world.grid(mods)
    names["strategy"].start(grid, arrays_of(world.params), num_rounds=1)
    # Every image would have been given away, so no client sent anything.
    assert {entry.status for entry in names["strategy"].entries} == {"NOT_SENT"}
    assert read_journals(tmp_path / "reports")[1][0].who == "server"
