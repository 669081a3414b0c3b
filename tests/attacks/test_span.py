"""Spans: the rank is that of the signal, and true inputs alone are inside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinv.attacks.grain.embedding import FLOAT32
from jaxinv.attacks.span import GAP, screen, span, spectral_rank

EPS32, EPS64 = (float(np.finfo(kind).eps) for kind in (np.float32, np.float64))
QUICK = settings(max_examples=40, deadline=None, derandomize=True)


def spectrum(signal, noise, size=40):
    rng = np.random.default_rng(0)
    rest = noise * np.sort(rng.uniform(0.2, 1, size - len(signal)))[::-1]
    return np.concatenate([signal, rest])


SPECTRA = {
    "float32 rounding": (spectrum([3.0, 1.0, 0.2], 1e-7), EPS32, 3),
    "float64, exact but for its rounding": (spectrum([3.0, 1.0], 1e-16), EPS64, 2),
    "float64, zeros": (np.r_[2.0, 1.0, np.zeros(8)], EPS64, 2),
    # What comes from float32 is no signal, however wide the gaps far below.
    "float32, zeros": (np.r_[2.0, 1.0, 1e-9, 1e-14, 0.0], EPS32, 2),
    "gaps of its own": (spectrum([1.0, 3e-2, 2e-2, 4e-4, 3e-5], 1e-7), EPS32, 5),
    "Gaussian noise": (spectrum([1.0, 0.3], 1e-3), EPS32, 2),
    # A signal that drowns is lost; those above the noise are not.
    "noise drowns the weak": (spectrum([1.0, 0.3, 2e-3], 1e-3), EPS32, 2),
    "full": (np.linspace(2.0, 1.0, 6), EPS32, 6),
    "zero": (np.zeros(5), EPS32, 0),
    "nothing": (np.zeros(0), EPS32, 0),
    "one": (np.ones(1), EPS64, 1),
}


@pytest.mark.parametrize("case", SPECTRA)
def test_rank_is_at_the_last_wide_gap(case):
    values, eps, rank = SPECTRA[case]
    assert spectral_rank(values, eps) == rank
    # The unit says nothing.
    assert spectral_rank(1e-6 * values, eps) == rank


def planted(rank, rows, columns, dtype=np.float32, seed=0):
    """Inputs `[rank, rows]` and the gradient of a layer of so many units."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((rank, rows))
    slopes = rng.standard_normal((rank, columns)) * 10 ** rng.uniform(-2, 0, (rank, 1))
    fed = inputs.astype(dtype)
    return inputs, fed.T @ (1e-3 * slopes).astype(dtype)


@QUICK
@given(
    rank=st.integers(1, 12),
    rows=st.integers(16, 48),
    columns=st.integers(16, 48),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 10**6),
)
def test_true_rows_are_inside_and_others_far_out(rank, rows, columns, dtype, seed):
    inputs, gradient = planted(rank, rows, columns, dtype, seed)
    found = span([gradient])
    assert (found.rank, found.limit) == (rank, min(rows, columns))
    assert found.identifiable and found.gap >= GAP
    assert found.excess(inputs).max() <= 1
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(rank), atol=1e-12)
    rng = np.random.default_rng(seed + 1)
    strangers = rng.standard_normal((50, rows))
    assert found.excess(strangers).min() > (50 if dtype is np.float32 else 1e6)
    # What is mostly a true input, with a little of something else, is none.
    near = inputs[rng.integers(0, rank, 50)] + 0.1 * strangers
    assert found.excess(near).min() > (5 if dtype is np.float32 else 1e5)
    # The other side is the gradient's transpose.
    assert found.right_excess(gradient.astype(np.float64)).max() <= 1
    others = rng.standard_normal((5, columns))
    turned = span([gradient.T]).excess(others)
    np.testing.assert_allclose(found.right_excess(others), turned, rtol=0.05)


def test_size_of_rows_and_of_the_gradient_do_not_matter():
    inputs, gradient = planted(4, 30, 20, np.float64)
    whole, tiny = span([gradient]), span([1e-12 * gradient])
    rows = inputs + 1e-8
    np.testing.assert_allclose(whole.excess(1e5 * rows), whole.excess(rows), rtol=1e-4)
    np.testing.assert_allclose(tiny.excess(rows), whole.excess(rows), rtol=1e-2)
    assert whole.scale == pytest.approx(np.linalg.norm(gradient))


@pytest.mark.parametrize("rank", [16, 17, 30])
def test_as_many_inputs_as_units_are_not_identifiable(rank):
    _, gradient = planted(rank, 40, 16)
    found = span([gradient])
    assert not found.identifiable and found.rank == 16


def test_a_gradient_of_zeros_says_nothing():
    found = span([np.zeros((6, 5), np.float32)])
    assert found.rank == 0 and found.gap == 0 and not found.identifiable


def test_noise_alone_has_no_span():
    for seed in range(10):
        # Of a square the smallest value alone may be far below the others.
        noise = np.random.default_rng(seed).standard_normal((30, 40))
        assert not span([noise.astype(np.float32)]).identifiable


@pytest.mark.parametrize("lost", [1, 3])
def test_stacking_keeps_what_one_factor_has_lost(lost):
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((6, 30))
    slopes = rng.standard_normal((6, 20))
    slopes[:lost] = 0
    # As small as a layer's gradient may be beside another's.
    other = 1e-5 * rng.standard_normal((6, 25))
    weak, strong = ((inputs.T @ part).astype(np.float32) for part in (slopes, other))
    alone, both = span([weak]), span([weak, strong])
    assert (alone.rank, both.rank) == (6 - lost, 6)
    assert (alone.excess(inputs[:lost]) > 100).all()
    assert (alone.excess(inputs[lost:]) <= 1).all()
    assert (both.excess(inputs) <= 1).all()
    assert both.scale == pytest.approx(np.linalg.norm(weak), rel=1e-6)


@pytest.mark.parametrize("noise", [1e-6, 1e-5, 1e-4, 1e-3])
def test_the_bound_follows_noise_on_the_gradient(noise):
    rng = np.random.default_rng(3)
    for seed in range(5):
        inputs = rng.standard_normal((5, 60))
        gradient = inputs.T @ rng.standard_normal((5, 50))
        scale = noise * np.linalg.norm(gradient) / gradient.size**0.5
        noisy = gradient + scale * rng.standard_normal(gradient.shape)
        found = span([noisy.astype(np.float32)])
        assert found.rank == 5, seed
        assert found.excess(inputs).max() <= 1
        # An input is judged by the noise there is, neither more nor less.
        assert found.excess(inputs).max() > 1e-3
        assert found.noise == pytest.approx(noise * 50**-0.5, rel=1)
        if noise <= 1e-4:
            strangers = rng.standard_normal((50, 60))
            assert found.excess(strangers).min() > 10


def accepted(test, rows):
    """The screen as a device computes it, in float32."""
    part = rows[:, test.columns].astype(np.float32)
    rest = np.linalg.norm(part @ test.outside.astype(np.float32), axis=1)
    bound = np.linalg.norm(part @ test.weights.astype(np.float32), axis=1)
    return rest <= bound + FLOAT32 * np.linalg.norm(part, axis=1)


@QUICK
@given(
    rank=st.integers(1, 12),
    columns=st.integers(30, 64),
    dead=st.integers(0, 12),
    dtype=st.sampled_from([np.float32, np.float64]),
    noise=st.sampled_from([0, 1e-5]),
    seed=st.integers(0, 10**6),
)
def test_the_screen_rejects_no_one_inside_and_nearly_all_others(
    rank, columns, dead, dtype, noise, seed
):
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((rank, 64))
    inputs[:, rng.permutation(64)[:dead]] = 0  # units that no input wakes
    gradient = inputs.T.astype(dtype) @ rng.standard_normal((rank, 40)).astype(dtype)
    gradient += (noise * rng.standard_normal(gradient.shape)).astype(dtype)
    whole = span([gradient])
    assert whole.rank == rank
    test = screen(whole, np.sort(rng.permutation(64)[:columns]))
    np.testing.assert_array_equal(test.weights.shape, (columns, columns))
    # Inputs, their mixtures, and what is out as far as the full test allows.
    mixed = rng.standard_normal((40, rank)) @ inputs
    off = rng.standard_normal((40, 64))
    off -= off @ whole.basis @ whole.basis.T
    reach = whole.excess(mixed + 1e-6 * off) / 1e-6
    marginal = mixed + 0.9 / reach[:, None] * off
    rows = np.concatenate([inputs, mixed, marginal])
    assert (whole.excess(rows) <= 1).all()
    assert accepted(test, rows).all()
    strangers = rng.standard_normal((500, 64))
    assert accepted(test, strangers).mean() < 0.01
    near = mixed[rng.integers(0, 40, 500)] + 0.1 * strangers
    assert accepted(test, near).mean() < 0.01
