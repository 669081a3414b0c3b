"""Group consistency on quadratics, where every step is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv.attacks.base import Status, advance
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.attacks.group import group_matching
from jaxinv.errors import InputError
from jaxinv.objective import Terms
from jaxinv.observation import observe
from jaxinv.space import pixels
from jaxinv.target import Spec

SPEC = Spec((2, 2, 1), 2)
KEY, MEMBERS, NUM_STEPS = jax.random.key(0), 4, 30
SPACE = pixels(SPEC, box=False)


@pytest.fixture(scope="module")
def observation():
    tree = {"w": jnp.ones(2)}
    return observe(tree, tree, num_examples=1, spec=SPEC, labels=[1])


def bowl(key, observation, batch):
    """The match is lowest at 2; the prior pulls to 0 and is no evidence."""
    match = jnp.mean((batch.inputs - 2.0) ** 2)
    prior = 0.1 * jnp.mean(batch.inputs**2)
    return match + prior, Terms(match, prior)


def flat(key, observation, batch):
    """Nothing to find, so that only the group moves its members."""
    match = 0.0 * jnp.sum(batch.inputs) + jnp.max(batch.inputs)
    return 0.0 * match, Terms(match, jnp.zeros(()))


def group(objective, weight, optimizer=None, **options):
    return group_matching(
        objective,
        SPACE,
        optimizer or optax.sgd(0.5),
        NUM_STEPS,
        members=MEMBERS,
        weight=weight,
        **options,
    )


def run(attack, observation, num_steps=NUM_STEPS):
    """First and last state, and what is returned."""

    @jax.jit
    def both():
        first = attack.init(KEY, observation)
        last, _ = advance(attack, num_steps)(observation, first)
        return first, last, attack.finish(observation, last)

    return both()


def spread(state):
    inputs = np.float64(state.z.inputs)
    return np.mean((inputs - inputs.mean(0)) ** 2)


def test_members_are_drawn_together_and_their_mean_stays(observation):
    spreads = []
    for weight in (0.0, 1.0):
        first, last, _ = run(group(flat, weight), observation)
        spreads.append(spread(last) / spread(first))
        mean = np.mean(first.z.inputs, axis=0)
        np.testing.assert_allclose(last.z.inputs.mean(0), mean, atol=1e-5)
        # Each step moves a member by lr * 2 w (z - mean) / (members * pixels).
        shrink = 1 - 0.5 * 2 * weight / (MEMBERS * 4)
        assert spreads[-1] == pytest.approx(shrink ** (2 * NUM_STEPS), rel=1e-3)
    assert spreads[0] == pytest.approx(1.0) and spreads[1] < 0.95


def test_without_weight_members_are_independent(observation):
    # The group's objective is the mean, so its gradient is a member's over MEMBERS.
    first, last, _ = run(group(bowl, 0.0, optax.sgd(0.1 * MEMBERS)), observation)
    alone = gradient_matching(bowl, SPACE, optax.sgd(0.1), NUM_STEPS)

    @jax.jit
    @jax.vmap
    def by_itself(start):
        state = alone.init(KEY, observation)._replace(z=start)
        return advance(alone, NUM_STEPS)(observation, state)[0].z

    found = by_itself(first.z).inputs
    np.testing.assert_allclose(last.z.inputs, found, rtol=1e-5, atol=1e-6)
    assert len(np.unique(first.z.inputs)) == first.z.inputs.size  # no start twice


def test_the_member_that_matches_best_is_returned(observation):
    _, last, found = run(group(bowl, 0.01), observation, 3)
    looked_at = last.best_z.inputs
    matches = np.mean((np.float64(looked_at) - 2) ** 2, axis=(1, 2, 3, 4))
    best = matches.argmin()
    np.testing.assert_allclose(found.stats["member_scores"], matches, rtol=1e-4)
    np.testing.assert_allclose(found.score, matches[best], rtol=1e-4)
    np.testing.assert_array_equal(found.batch.inputs, looked_at[best])
    np.testing.assert_array_equal(found.batch.labels, [1])
    assert found.status == Status.OK and matches.std() > 0


def test_a_group_that_diverges_loses(observation):
    _, _, found = run(group(bowl, 0.0, optax.sgd(1e30)), observation)
    assert found.status == Status.DIVERGED and jnp.isinf(found.score)
    assert np.isfinite(found.batch.inputs).all()


def test_position_says_what_is_drawn_together(observation):
    upper = group(flat, 1.0, position=lambda batch: batch.inputs[..., :1, :, :])
    first, last, _ = run(upper, observation)
    lower = (slice(None), slice(None), slice(1, None))
    np.testing.assert_array_equal(last.z.inputs[lower], first.z.inputs[lower])
    assert spread(last) < 0.95 * spread(first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": 0, "weight": 0.0}, "members is 0; expected"),
        ({"members": 2, "weight": -1.0}, "weight is -1.0; expected"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(InputError, match=f"^{message}[^\n]*$"):
        group_matching(bowl, SPACE, optax.sgd(0.1), 5, **options)
