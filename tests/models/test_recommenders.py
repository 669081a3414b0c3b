"""Recommenders against PyTorch's autograd, and their grid of ratings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.errors import InputError
from jaxinv.models.recommenders import (
    RECOMMENDERS,
    Profile,
    RatingScale,
    build_recommender,
)

KEY = jax.random.key(0)


def profile(model, num=6):
    rng = np.random.default_rng(0)
    low, high = model.scale.box()
    ratings = rng.uniform(low, high, num)
    if model.scale.implicit:
        ratings = np.round(ratings)
    rated = np.array([1.0] * (num - 2) + [0, 1])
    return Profile(jnp.asarray(ratings), jnp.asarray(rated), model.init_user(KEY))


def torch_loss(torch, name, public, held, implicit):
    items, user = public["items"], held["user"]
    if name == "mf":
        predicted = items @ user
    elif name == "gmf":
        predicted = (items * user) @ public["weights"]
    else:
        x = torch.cat([user.expand(len(items), -1), items], 1)
        for i, layer in enumerate(public["layers"]):
            x = x @ layer["kernel"] + layer["bias"]
            x = torch.relu(x) if i + 1 < len(public["layers"]) else x
        predicted = x[:, 0]
    keep = held["rated"] > 0
    predicted, ratings = predicted[keep], held["ratings"][keep]
    if implicit:
        return torch.nn.functional.binary_cross_entropy_with_logits(predicted, ratings)
    return torch.nn.functional.mse_loss(predicted, ratings)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("name", RECOMMENDERS)
def test_gradients_are_pytorchs(name, implicit):
    torch = pytest.importorskip("torch")
    options = {"widths": (8, 4)} if name == "ncf" else {}
    model = build_recommender(name, RatingScale(implicit=implicit), dim=5, **options)
    public, held = model.init(KEY, 6), profile(model)
    ours = jax.grad(model.loss)(public, held)
    theirs = jax.tree.map(
        lambda x: torch.tensor(np.asarray(x), requires_grad=True), public
    )
    secrets = {k: torch.tensor(np.asarray(v)) for k, v in held._asdict().items()}
    torch_loss(torch, name, theirs, secrets, implicit).backward()
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b.grad, rtol=1e-4, atol=1e-7)
    # The row of the item that is not rated.
    assert not np.any(ours["items"][4]) and np.any(ours["items"][5])


def test_one_user_and_a_user_for_each_row_agree():
    for name in RECOMMENDERS:
        model = build_recommender(name, RatingScale(), dim=4)
        public, user = model.init(KEY, 3), model.init_user(KEY)
        np.testing.assert_allclose(
            model.predict(public, user),
            model.predict(public, jnp.tile(user, (3, 1))),
            rtol=1e-5,
        )


def test_the_grid():
    stars = RatingScale()
    found = stars.snapped(jnp.array([0.0, 0.34, 0.36, 0.99, 7.0]))
    np.testing.assert_allclose(found, [0.1, 0.3, 0.4, 1.0, 1.0], rtol=1e-6)
    assert stars.box() == (0.1, 1.0)
    likes = RatingScale(implicit=True)
    np.testing.assert_array_equal(likes.snapped(jnp.array([-1.0, 0.4, 0.6])), [0, 0, 1])


def test_bad_options_are_named():
    for make, message in [
        (lambda: RatingScale(low=5, high=1), "low and high are 5 and 1"),
        (lambda: RatingScale(step=0), "step is 0"),
        (lambda: build_recommender("nfc", RatingScale()), "model is 'nfc'.*ncf"),
        (lambda: build_recommender("mf", RatingScale(), dim=0), "dim is 0"),
        (lambda: build_recommender("mf", RatingScale(), std=0.0), "std is 0"),
        (
            lambda: build_recommender("ncf", RatingScale(), activation="sin"),
            "activation is 'sin'",
        ),
        (lambda: build_recommender("ncf", RatingScale(), widths=(0,)), "widths"),
    ]:
        with pytest.raises(InputError, match=message):
            make()
