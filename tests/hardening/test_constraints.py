"""Budgets of noise and of hidden tensors."""

import jax
import jax.numpy as jnp
import pytest

from jaxinv.errors import InputError
from jaxinv.hardening import mask_budget, noise_budget

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def test_a_budget_of_hidden_tensors_is_kept_and_has_the_slope_of_the_root():
    constraint = mask_budget({"a": 54, "b": 18, "c": 200}, 0.3)
    theta = {"a": jnp.asarray(2.0), "b": jnp.asarray(-1.0), "c": jnp.asarray(0.4)}

    def spent(masks):
        return 54 * masks["a"] + 18 * masks["b"] + 200 * masks["c"]

    with jax.enable_x64(True):
        theta = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), theta)
        masks = constraint.apply(theta)
        assert float(spent(masks)) == pytest.approx(0.3 * 272, rel=1e-9)
        again = constraint.apply(constraint.invert(masks))
        for x, y in zip(*map(jax.tree.leaves, (masks, again)), strict=True):
            assert float(x) == pytest.approx(float(y), rel=1e-9)
        # Along the budget nothing is spent; one mask moves as differences say.
        drift = jax.grad(lambda t: spent(constraint.apply(t)))(theta)
        assert all(abs(float(d)) < 1e-8 for d in jax.tree.leaves(drift))
        slope = float(jax.grad(lambda t: constraint.apply(t)["c"])(theta)["a"])
        ends = [
            float(constraint.apply({**theta, "a": theta["a"] + h})["c"])
            for h in (1e-5, -1e-5)
        ]
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: noise_budget({"a": -1.0}, 1.0), "prices holds -1"),
        (lambda: noise_budget({"a": 1.0}, 0.0), "budget is 0"),
        (
            lambda: noise_budget({"a": jnp.ones(2)}, 1.0),
            "expected a tree of one number per",
        ),
        (lambda: noise_budget({"a": 1.0, "b": 1.0}, 1.0, floor=0.5), "floor is 0.5"),
        (lambda: mask_budget({"a": 3}, 1.5), "share is 1.5"),
        (lambda: mask_budget({"a": 0}, 0.5), "sizes holds 0"),
    ],
)
def test_wrong_budgets_are_named(make, words):
    with pytest.raises(InputError, match=words):
        make()
