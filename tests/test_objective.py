"""The objective: one round, several, and the arithmetic of its terms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv import matching, priors
from jaxinv.errors import InputError
from jaxinv.objective import objective
from jaxinv.observation import observe
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec

SPEC = Spec((3, 2, 1), 4)
KEY = jax.random.key(0)


def loss(params, batch):
    logits = jnp.tanh(batch.inputs.reshape(len(batch.inputs), -1)) @ params["w"]
    return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(2), batch.labels])


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


BATCH = Batch(draw(0, 2, 3, 2, 1), np.array([1, 3]))


def one_round(seed):
    params, update = {"w": draw(seed, 6, 4)}, {"w": draw(seed + 100, 6, 4)}
    return observe(params, update, num_examples=2, spec=SPEC)


def stack(*observations):
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *observations)


def evaluate(fn, *observations):
    """Total, terms and the derivative by the inputs, for observations of one shape."""

    def of_inputs(inputs, observation):
        return fn(KEY, observation, BATCH._replace(inputs=inputs))

    work = jax.jit(jax.value_and_grad(of_inputs, has_aux=True))
    found = [work(BATCH.inputs, observation) for observation in observations]
    return [(total, terms, slope) for (total, terms), slope in found]


MATCHES = {"squared": matching.squared(), "cosine": matching.cosine()}


@pytest.mark.parametrize("name", MATCHES)
def test_one_round_is_the_match_of_the_release(name):
    match = MATCHES[name]
    seen = one_round(1)
    params, update = jax.tree.map(lambda leaf: leaf[0], (seen.params, seen.update))
    sent = jax.jit(jax.grad(loss))(params, BATCH)
    truth = observe(params, sent, num_examples=2, spec=SPEC)
    found, at_truth = evaluate(objective(gradient(loss), match), seen, truth)
    expected = match(sent, update)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    np.testing.assert_allclose(found[1].match, expected, rtol=1e-5)
    assert found[1].prior == 0 and abs(at_truth[0]) < 1e-6 < expected


def test_identical_rounds_are_as_good_as_one():
    fn, one = objective(gradient(loss), matching.cosine()), one_round(1)
    for alone, thrice in zip(
        jax.tree.leaves(evaluate(fn, one)),
        jax.tree.leaves(evaluate(fn, stack(one, one, one))),
        strict=True,
    ):
        np.testing.assert_allclose(alone, thrice, rtol=1e-4, atol=1e-6)


def test_several_rounds_are_the_mean_of_a_loop():
    fn = objective(gradient(loss), matching.squared())
    rounds = [one_round(seed) for seed in (1, 2, 3)]
    [found] = evaluate(fn, stack(*rounds))
    looped = evaluate(fn, *rounds)
    mean = jax.tree.map(lambda *values: np.mean(values, axis=0), *looped)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        found,
        mean,
    )
    assert np.std([float(total) for total, *_ in looped]) > 0.1


def test_weights_enter_the_sum_and_not_the_terms():
    seen, prior = one_round(1), priors.weighted((0.3, priors.l2_norm))
    [plain] = evaluate(objective(gradient(loss), matching.squared()), seen)
    [(total, terms, slope)] = evaluate(
        objective(gradient(loss), matching.squared(), prior, match_weight=0.25), seen
    )
    believed = 0.3 * 0.5 * np.mean(BATCH.inputs**2)
    np.testing.assert_allclose(terms.match, plain[0], rtol=1e-6)
    np.testing.assert_allclose(terms.prior, believed, rtol=1e-6)
    np.testing.assert_allclose(total, 0.25 * plain[0] + believed, rtol=1e-6)
    expected = 0.25 * plain[2] + 0.3 * BATCH.inputs / BATCH.inputs.size
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-6)


def test_every_round_draws_for_itself():
    def noise(key, params, batch):
        return {"w": jax.random.normal(key, params["w"].shape)}

    def record(guess, observed):
        return guess["w"][0, 0]

    fn = jax.jit(objective(noise, record))
    seen = one_round(1)
    drawn = [fn(k, seen, BATCH)[0] for k in (KEY, KEY, jax.random.key(1))]
    assert drawn[0] == drawn[1] != drawn[2]
    both = float(fn(KEY, stack(seen, seen), BATCH)[0])
    # The mean of two draws: that of one key used twice would be a draw itself.
    one_by_one = [
        float(noise(k, {"w": seen.params["w"][0]}, None)["w"][0, 0])
        for k in jax.random.split(KEY, 2)
    ]
    assert one_by_one[0] != one_by_one[1]
    np.testing.assert_allclose(both, np.mean(one_by_one), rtol=1e-5)


def test_a_gradient_is_not_matched_with_a_delta():
    params = {"w": draw(0, 6, 4)}
    seen = observe(params, params, num_examples=2, spec=SPEC, sent="delta")
    with pytest.raises(InputError, match=r"release is a gradient .* weight delta"):
        objective(gradient(loss), matching.cosine())(KEY, seen, BATCH)
