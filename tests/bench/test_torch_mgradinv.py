"""PyTorch's MGradInv walks the way of `jaxinv.attacks.mgradinv`, and arrives."""

import jax
import numpy as np
import pytest

pytest.importorskip("torch")

from bench.torch_mgradinv import DERIVATIVES
from bench.torch_mgradinv import mgradinv as torch_mgradinv
from jaxinv.attacks.mgradinv import mgradinv
from jaxinv.data.ratings import generated_ratings, grouped
from jaxinv.federation import observed_alone, observed_steps
from jaxinv.models.recommenders import RatingScale, mf

NUM_STEPS, PRODUCTS, STARTS = 18, 6, 3
MODEL = mf(RatingScale(), dim=6)


def walked(start):
    """Each client's arrays and starts, and where JAX came from there."""
    ratings = generated_ratings(num_users=3)
    (group,) = grouped(ratings, range(3), scale=MODEL.scale.high, growth=9)
    steps = observed_steps(0, 10, 2)
    key = jax.random.key(0)
    clients = observed_alone(key, MODEL, group, ratings.num_items, steps, 0.05)
    attack = mgradinv(MODEL, num_steps=NUM_STEPS, start=start, products=PRODUCTS)

    def one_start(key, observation):
        def step(state, _):
            state, info = attack.step(observation, state)
            return state, info["score"]

        state = attack.init(key, observation)
        end, trace = jax.lax.scan(step, state, length=NUM_STEPS)
        found = attack.finish(observation, end)
        return state.users, trace, found.batch.ratings, found.score

    over_starts = jax.vmap(one_start, (0, None))
    keys = jax.random.split(key, STARTS)
    walk = jax.jit(jax.vmap(over_starts, (None, 0)))(keys, clients.observed)
    rows = clients.observed.params["items"], clients.observed.update["items"]
    return jax.tree.map(np.array, (rows, walk, clients.profiles))


@pytest.mark.parametrize("start", ["read", "random"])
def test_it_walks_the_same_way(start):
    with jax.enable_x64(True):
        (items, update), (users, traces, ratings, scores), truth = walked(start)
    for derivatives in DERIVATIVES:
        for i, rated in enumerate(truth.rated > 0):
            found = torch_mgradinv(
                items[i],
                update[i],
                users[i],
                MODEL.scale.box(),
                staged=start == "random",
                num_steps=NUM_STEPS,
                products=PRODUCTS,
                derivatives=derivatives,
            )
            np.testing.assert_allclose(found.trace, traces[i].T, 1e-6, 1e-14)
            np.testing.assert_allclose(found.scores, scores[i], 1e-6, 1e-14)
            found, same = found.ratings[:, rated], ratings[i][:, rated]
            np.testing.assert_allclose(found, same, 1e-5, 1e-8)
    assert len(np.unique(traces[:, :, 0])) == STARTS * len(traces)


@pytest.mark.parametrize("derivatives", DERIVATIVES)
def test_it_finds_planted_ratings(derivatives):
    rng = np.random.default_rng(0)
    items, users = rng.normal(0, 0.1, (2, 25, 6)), rng.normal(0, 0.1, (2, 6))
    truth = rng.integers(1, 11, 25) / 10
    errors = np.einsum("mnd,md->mn", items, users) - truth
    update = 2 / 24 * errors[..., None] * users[:, None]
    update[:, 7] = 0  # The client has not rated this one.
    drawn = rng.normal(0, 0.1, (4, 1, 6)).repeat(2, 1)
    found = torch_mgradinv(
        items, update, drawn, (0.1, 1.0), staged=True, derivatives=derivatives
    )
    assert found.scores.shape == (4,) and found.scores.min() < 1e-20
    best = found.ratings[found.scores.argmin()]
    truth[7] = 0.1
    np.testing.assert_allclose(best, truth, atol=1e-8)
