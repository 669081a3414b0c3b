"""The cosine of two updates at any scale, in a batch, and its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.factored import Factored
from jaxinv.similarity import cosine_similarity

SHAPES = [(3, 4), (5,), ()]
WEIGHTS = [np.float32(w) for w in (1.0, 0.5, 0.0)]


def draw(seed, scale=1.0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return [np.asarray(scale * rng.normal(size=s), dtype) for s in SHAPES]


def by_definition(guess, observed, weights=WEIGHTS):
    def total(a, b):
        terms = zip(weights, a, b, strict=True)
        return sum(np.float64(w) * np.sum(np.float64(x) * y) for w, x, y in terms)

    norms2 = total(guess, guess) * total(observed, observed)
    return total(guess, observed) / np.sqrt(norms2)


def similarity(guess, observed):
    return cosine_similarity(WEIGHTS, guess, observed)


@pytest.fixture(params=["cpu", "gpu"])
def backend(request, monkeypatch):
    """Both ways of taking the sums, of which a device has one."""
    monkeypatch.setattr(jax, "default_backend", lambda: request.param)


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e-10, 1.0, 1e10, 1e18, 1e30])
def test_the_scale_of_either_changes_nothing(backend, scale):
    guess, observed = draw(0), draw(1)
    truth = by_definition(guess, observed)
    slope = jax.grad(similarity)(guess, observed)
    for big, small in ((guess, observed), (observed, guess)):
        scaled = [np.float32(scale) * x for x in big]
        np.testing.assert_allclose(similarity(scaled, small), truth, rtol=1e-5)
    scaled = [np.float32(scale) * x for x in guess]
    for a, b in zip(jax.grad(similarity)(scaled, observed), slope, strict=True):
        np.testing.assert_allclose(np.float64(a) * scale, b, rtol=1e-4, atol=1e-7)


def test_one_start_out_of_range_leaves_the_rest_of_its_batch_right(backend):
    guesses = [draw(2), draw(3, 1e-30), draw(4, 1e30), draw(5, 0.0)]
    observed = draw(1)
    stacked = jax.tree.map(lambda *xs: np.stack(xs), *guesses)
    batch = jax.vmap(jax.value_and_grad(similarity), in_axes=(0, None))
    values, slopes = jax.jit(batch)(stacked, observed)
    for i, guess in enumerate(guesses):
        value, slope = jax.value_and_grad(similarity)(guess, observed)
        np.testing.assert_allclose(values[i], value, rtol=1e-5)
        for a, b in zip(slopes, slope, strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-7)
    assert values[3] == 0


def test_a_batch_in_a_batch(backend):
    guesses = np.stack([np.stack([draw(i + 2 * j)[0] for i in (0, 1)]) for j in (0, 1)])
    observed = [draw(9)[0]]

    def one(guess):
        return cosine_similarity(WEIGHTS[:1], [guess], observed)

    found = jax.vmap(jax.vmap(one))(guesses)
    for i, j in np.ndindex(2, 2):
        truth = by_definition([guesses[i, j]], observed, WEIGHTS[:1])
        np.testing.assert_allclose(found[i, j], truth, rtol=1e-5)


@pytest.mark.parametrize("argument", [0, 1])
def test_second_derivatives_are_those_of_finite_differences(backend, argument):
    with jax.enable_x64(True):
        both = draw(0, dtype=np.float64), draw(1, dtype=np.float64)
        direction = draw(2, dtype=np.float64)

        def along(step):
            moved = list(both)
            moved[argument] = [
                x + step * d for x, d in zip(both[argument], direction, strict=True)
            ]
            return similarity(*moved)

        slope = jax.grad(along)
        h = 1e-6
        first = (along(h) - along(-h)) / (2 * h)
        second = (slope(h) - slope(-h)) / (2 * h)
        assert abs(first) > 1e-3 and abs(second) > 1e-3
        np.testing.assert_allclose(slope(0.0), first, rtol=1e-7)
        np.testing.assert_allclose(jax.grad(slope)(0.0), second, rtol=1e-7)
        np.testing.assert_allclose(jax.jvp(slope, (0.0,), (1.0,))[1], second, rtol=1e-7)


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_a_factored_leaf_counts_as_the_matrix_it_stands_for(backend, scale):
    rng = np.random.default_rng(0)
    rows, errors = (rng.normal(size=s).astype(np.float32) for s in ((2, 3), (2, 4)))
    observed = draw(1)
    factored = Factored(
        jnp.asarray(rows), jnp.asarray(np.float32(scale) * errors), lambda x: x, (3, 4)
    )
    rest = [np.float32(scale) * x for x in draw(2)[1:]]
    truth = by_definition([scale * (rows.T @ errors), *rest], observed)
    found = cosine_similarity(WEIGHTS, [factored, *rest], observed)
    np.testing.assert_allclose(found, truth, rtol=1e-5)


def test_a_batch_in_range_takes_no_branch_for_the_rest():
    """Both branches of a batch would cost more than dividing always."""
    guesses = jax.tree.map(lambda x: np.stack([x, x]), draw(0))
    batch = jax.vmap(similarity, in_axes=(0, None))
    text = str(jax.make_jaxpr(batch)(guesses, draw(1)))
    assert "cond[" in text
    hlo = jax.jit(batch).lower(guesses, draw(1)).as_text()
    assert hlo.count("stablehlo.case") >= 3
