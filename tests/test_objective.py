"""The objective: one round, several, and the arithmetic of its terms."""

import dataclasses

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


def hide(seen, hidden, value=np.nan):
    """The observation with these numbers `[rounds, 6, 4]` (or 1) encrypted."""
    update = {"w": jnp.where(hidden, value, seen.update["w"])}
    known = dataclasses.replace(seen.known, visible={"w": jnp.asarray(~hidden)})
    return dataclasses.replace(seen, update=update, known=known)


HIDDEN = np.random.default_rng(9).uniform(size=(1, 6, 4)) < 0.4
VISIBLE_MATCHES = {
    "squared": (matching.squared(), lambda g, u: np.sum((g - u) ** 2)),
    "l1": (matching.l1(), lambda g, u: np.sum(np.abs(g - u))),
    "cosine": (
        matching.cosine(),
        lambda g, u: 1 - g @ u / np.linalg.norm(g) / np.linalg.norm(u),
    ),
    "angular": (
        matching.angular(),
        lambda g, u: np.arccos(g @ u / np.linalg.norm(g) / np.linalg.norm(u)) / np.pi,
    ),
}


@pytest.mark.parametrize("name", VISIBLE_MATCHES)
def test_hidden_numbers_are_never_read_and_norms_are_of_the_visible(name):
    match, direct = VISIBLE_MATCHES[name]
    seen, fn = one_round(1), objective(gradient(loss), match)
    of_nan, of_big, all_shown, none_shown = evaluate(
        fn,
        hide(seen, HIDDEN),
        hide(seen, HIDDEN, 1e6),
        hide(seen, np.zeros_like(HIDDEN)),
        hide(seen, np.ones_like(HIDDEN)),
    )
    guess = np.asarray(jax.jit(jax.grad(loss))({"w": seen.params["w"][0]}, BATCH)["w"])
    plain = ~HIDDEN[0]
    wanted = direct(guess[plain], np.asarray(seen.update["w"][0])[plain])
    np.testing.assert_allclose(of_nan[0], wanted, rtol=1e-5)
    assert np.isfinite(of_nan[2]).all() and np.any(of_nan[2])
    np.testing.assert_array_equal(of_nan[2], of_big[2])
    # Nothing hidden is no defence; all hidden leaves nothing to descend on.
    [whole] = evaluate(fn, seen)
    np.testing.assert_allclose(all_shown[0], whole[0], rtol=1e-5)
    np.testing.assert_allclose(all_shown[2], whole[2], rtol=1e-4, atol=1e-6)
    assert abs(whole[0] - of_nan[0]) > 1e-3 * abs(whole[0])
    assert np.isfinite(none_shown[0]) and not np.any(none_shown[2])


def test_every_round_has_its_own_mask_or_all_have_one():
    fn = objective(gradient(loss), matching.cosine())
    rounds = [one_round(seed) for seed in (1, 2)]
    masks = [HIDDEN, ~HIDDEN]
    alone = evaluate(fn, *(hide(r, m) for r, m in zip(rounds, masks, strict=True)))
    both = stack(*rounds)
    [own] = evaluate(fn, hide(both, np.concatenate(masks)))
    mean = np.mean([total for total, *_ in alone])
    np.testing.assert_allclose(own[0], mean, rtol=1e-5)
    assert np.isfinite(own[2]).all()
    first = evaluate(fn, *(hide(r, HIDDEN) for r in rounds))
    one = dataclasses.replace(both.known, visible={"w": jnp.asarray(~HIDDEN)})
    [shared] = evaluate(fn, dataclasses.replace(both, known=one))
    np.testing.assert_allclose(shared[0], np.mean([t for t, *_ in first]), rtol=1e-5)


def test_without_a_mask_the_program_is_that_of_the_match_alone():
    seen, release = one_round(1), gradient(loss)
    for match in (matching.squared(), matching.cosine()):

        def by_hand(observation, batch, match=match):
            params, update = observation.round(0)
            if isinstance(match, matching.ProductMatch):
                return match(release.factored(params, batch), update)
            return match(release(KEY, params, batch), update)

        def found(observation, batch, match=match):
            return objective(release, match)(KEY, observation, batch)[1].match

        def operations(fn, *args):
            return [e.primitive.name for e in jax.make_jaxpr(fn)(*args).eqns]

        assert operations(found, seen, BATCH)[
            : len(operations(by_hand, seen, BATCH))
        ] == operations(by_hand, seen, BATCH)
        hidden = operations(found, hide(seen, HIDDEN), BATCH)
        assert hidden != operations(found, seen, BATCH)
