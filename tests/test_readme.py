"""The README's Python runs as it stands."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jaxinv

README = Path(__file__).parents[1] / "README.md"


def test_the_snippets_run_and_are_short():
    if not README.exists():
        pytest.skip("no README beside the tests")
    # The third needs Flower: tests/flower/test_flower_readme.py.
    attack, defend, *_ = re.findall(
        r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL
    )
    assert len(attack.strip().splitlines()) <= 15
    params = {
        "w": 0.01 * jax.random.normal(jax.random.key(1), (3072, 10)),
        "b": jnp.zeros(10),
    }

    def my_model(params, inputs):
        return inputs.reshape(inputs.shape[0], -1) @ params["w"] + params["b"]

    inputs = jax.random.uniform(jax.random.key(2), (1, 32, 32, 3))
    names = {
        "params": params,
        "gradient": params,
        "my_model": my_model,
        "batch": jaxinv.Batch(inputs, labels=jnp.array([3])),
    }
    exec(attack.replace("2000", "3"), names)
    assert names["found"].batch.inputs.shape == (1, 32, 32, 3)
    assert names["found"].status == 0
    # The second goes on where the first stopped.
    exec(defend.replace("release=", "num_steps=3, release="), names)
    assert jax.tree.map(jnp.shape, names["update"]) == jax.tree.map(jnp.shape, params)
    assert not jnp.array_equal(
        names["update"]["w"],
        jax.grad(names["target"].loss)(params, names["batch"])["w"],
    )
    run = jax.jit(jaxinv.iterate(jaxinv.restarts(names["attack"], 2)))
    assert run(jax.random.key(0), names["seen"]).status == 0
