"""The federated trainer against a loop, alone and together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.data.ratings import generated_ratings, grouped
from jaxinv.errors import InputError
from jaxinv.federation import (
    observed_alone,
    observed_steps,
    observed_together,
    pairs_of,
    start,
    train_alone,
    train_together,
)
from jaxinv.models.recommenders import Profile, RatingScale, build_recommender

KEY = jax.random.key(0)
RATINGS = generated_ratings(num_users=6, num_items=40)
MODEL = build_recommender("mf", RatingScale(), dim=3)


def gradients(items, user, ratings):
    """By hand: `-(2/n) e u^T` and `-(2/n) V^T e`."""
    errors = ratings - items @ user
    scale = -2 / len(ratings)
    return scale * np.outer(errors, user), scale * items.T @ errors


def test_alone_is_a_loop_of_gradient_steps():
    rate, steps = 0.3, observed_steps(1, 2, 2)
    group = grouped(RATINGS, range(6), scale=5)[0]
    clients = observed_alone(KEY, MODEL, group, RATINGS.num_items, steps, rate)
    public, users = start(KEY, MODEL, RATINGS.num_items, group.users)
    for row, number in enumerate(group.users):
        index, ratings = RATINGS.of(int(number))
        items, user = np.asarray(public["items"])[index], np.asarray(users[row])
        num = len(index)
        for step in range(4):
            update, slope = gradients(items, user, ratings / 5)
            if step in (1, 3):
                m = int(step == 3)
                seen, truth = clients.observed, clients.profiles
                for found, expected in [
                    (seen.params["items"][row, m, :num], items),
                    (seen.update["items"][row, m, :num], update),
                    (truth.user[row, m], user),
                ]:
                    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
                assert not np.any(seen.update["items"][row, m, num:])
            items, user = items - rate * update, user - rate * slope


@pytest.mark.parametrize("server", ["sum", "mean"])
def test_together_everyone_moves_the_items(server):
    rate, steps = 0.1, observed_steps(0, 3, 2)
    public, users = start(KEY, MODEL, RATINGS.num_items, np.arange(6))
    user, item, rating = pairs_of(RATINGS, 5)
    pairs = (user, item, rating.astype(np.float32))
    training = train_together(
        MODEL, public, users, pairs, jnp.asarray(steps), rate, server=server
    )
    items, people = np.asarray(public["items"]), np.asarray(users)
    for _ in range(3):
        total, moved = np.zeros_like(items), people.copy()
        for number in range(6):
            index, ratings = RATINGS.of(number)
            update, slope = gradients(items[index], people[number], ratings / 5)
            total[index] += update
            moved[number] -= rate * slope
        items = items - rate * total / (6 if server == "mean" else 1)
        people = moved
    np.testing.assert_allclose(training.public["items"][1], items, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(training.users[1], people, rtol=1e-4, atol=1e-6)
    assert training.errors[1] < training.errors[0]
    # What the server sees of one client is that client's gradient alone.
    group = grouped(RATINGS, [4], scale=5)[0]
    seen = observed_together(MODEL, training, group).observed
    index, ratings = RATINGS.of(4)
    update, _ = gradients(items[index], people[4], ratings / 5)
    np.testing.assert_allclose(seen.update["items"][0, 1], update, rtol=1e-3, atol=1e-6)


def test_other_steps_compile_nothing_anew():
    traced = 0

    def predict(public, user):
        nonlocal traced
        traced += 1
        return public["items"] @ user

    model = MODEL._replace(predict=predict)
    public = {"items": jax.random.normal(KEY, (4, 3))}
    held = Profile(jnp.full(4, 0.5), jnp.ones(4), model.init_user(KEY))
    run = jax.jit(lambda steps: train_alone(model, public, held, steps, 0.1))
    run(jnp.asarray(observed_steps(0, 1, 2)))
    before = traced
    run(jnp.asarray(observed_steps(5, 100, 2)))
    assert 0 < before == traced


def test_bad_steps_are_named():
    for arguments, message in [
        ((-1, 1, 1), "start is -1"),
        ((0, 0, 2), "interval is 0"),
        ((0, 1, 0), "rounds is 0"),
    ]:
        with pytest.raises(InputError, match=message):
            observed_steps(*arguments)
    public, users = start(KEY, MODEL, RATINGS.num_items, np.arange(6))
    with pytest.raises(InputError, match="server is 'median'"):
        train_together(
            MODEL,
            public,
            users,
            pairs_of(RATINGS, 5),
            jnp.arange(1),
            0.1,
            server="median",
        )
