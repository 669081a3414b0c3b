"""One table, many tests: what every named attack must do, whatever it does."""

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv import attacks, models
from jaxinv.attacks.base import Attack, Status, iterate, restarts
from jaxinv.client import simulate
from jaxinv.errors import InputError
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec

NAMES = sorted(attacks.ATTACKS)
SPEC = Spec((9, 9, 3), 4)
SMALL = {"convnet": {"width": 4}, "mlp": {"widths": (8,)}}


pytestmark = pytest.mark.usefixtures("compiled_quickly")


class Case(NamedTuple):
    attack: Attack
    run: Callable  # jitted, two starts where the attack has a loop
    client: Callable  # (seed) -> observation, true batch
    traces: list  # grows by one whenever `run` is traced


@functools.cache
def case(name) -> Case:
    """The attack of that name, briefly, on its own small model."""
    row = attacks.ATTACKS[name]
    options = {"num_steps": 3} if attacks.has_loop(name) else {}
    target = models.build(row.target, SPEC, **SMALL.get(row.target, {}))
    attack = attacks.build(name, target, **options)
    init, release = jax.jit(target.init), jax.jit(gradient(target.loss))

    def client(seed):
        keys = jax.random.split(jax.random.key(seed), 3)
        params = init(keys[0])
        inputs = jax.random.uniform(keys[1], (1, *SPEC.shape))
        batch = Batch(inputs, jnp.array([seed % 4]))
        return simulate(keys[2], target, params, batch, release=release), batch

    traces = []
    attack_fn = iterate(restarts(attack, 2 if attack.num_steps else 1, batch_size=2))

    def counted(key, observation):
        traces.append(name)
        return attack_fn(key, observation)

    return Case(attack, jax.jit(counted), client, traces)


@pytest.mark.parametrize("name", NAMES)
def test_the_row_is_complete(name):
    row = attacks.ATTACKS[name]
    assert all(isinstance(text, str) and text for text in row[1:])
    assert row.target in models.MODELS
    assert row.make.__doc__
    module = inspect.getmodule(row.make)
    assert module is not None
    assert module.__name__ == f"jaxinv.attacks.{name}", "one attack, one file"
    assert len(module.__doc__.splitlines()) > 2, "the paper stands at the top"
    first, *rest = inspect.signature(row.make).parameters.values()
    assert first.name == "target"
    assert all(p.kind is p.KEYWORD_ONLY for p in rest)


@pytest.mark.parametrize("name", NAMES)
def test_it_returns_a_batch_and_is_compiled_once(name):
    attack, run, client, traces = case(name)
    assert isinstance(attack, Attack)
    for seed in range(3):
        observation, batch = client(seed)
        found = run(jax.random.key(seed), observation)
        assert found.batch.inputs.shape == batch.inputs.shape
        assert found.batch.inputs.dtype == jnp.float32
        assert found.score.shape == found.status.shape == ()
        assert found.status.dtype == jnp.int32
        assert np.isfinite(found.score)
        assert int(found.status) in set(Status)
    assert len(traces) == 1


@pytest.mark.parametrize("name", NAMES)
def test_observations_are_batched_by_vmap(name):
    attack, run, client, _ = case(name)
    pair = [client(seed)[0] for seed in range(2)]
    keys = jnp.stack([jax.random.key(0), jax.random.key(1)])
    attack_fn = iterate(restarts(attack, 2 if attack.num_steps else 1, batch_size=2))
    both = jax.jit(jax.vmap(attack_fn))(
        keys, jax.tree.map(lambda *x: jnp.stack(x), *pair)
    )
    for i, observation in enumerate(pair):
        alone = run(keys[i], observation)
        # The sign of a gradient that is about 0 may differ, in a few pixels.
        close = np.isclose(
            both.batch.inputs[i], alone.batch.inputs, rtol=1e-2, atol=1e-3
        )
        assert close.mean() > 0.95


@pytest.mark.parametrize("name", NAMES)
def test_the_same_key_gives_the_same_answer(name):
    _, run, client, _ = case(name)
    observation, _ = client(0)
    first, second = (run(jax.random.key(5), observation) for _ in range(2))
    np.testing.assert_array_equal(first.batch.inputs, second.batch.inputs)


@pytest.mark.parametrize("name", NAMES)
def test_an_update_of_nan_is_a_status(name):
    """`observe` refuses such an update; one that comes past it must not crash."""
    _, run, client, _ = case(name)
    observation, _ = client(0)
    spoiled = observation.replace(
        update=jax.tree.map(lambda u: u * jnp.nan, observation.update)
    )
    found = run(jax.random.key(0), spoiled)
    assert found.status != Status.OK
    assert np.isinf(found.score)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_named_with_the_nearest(name):
    target = models.build("lenet", SPEC)
    known = list(inspect.signature(attacks.ATTACKS[name].make).parameters)[1:]
    if known:
        with pytest.raises(InputError, match=f"'{known[0]}x' is unknown to {name}"):
            attacks.build(name, target, **{f"{known[0]}x": 1})


def test_an_unknown_attack_is_named_with_the_nearest():
    with pytest.raises(InputError, match="did you mean rgap"):
        attacks.build("rgab", models.build("lenet", SPEC))
