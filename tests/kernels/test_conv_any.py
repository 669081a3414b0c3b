"""Any convolution that hypothesis draws agrees with XLA's."""

from typing import NamedTuple

import jax
import pytest
from conv_pairs import close, draw, quick, three_orders
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from jax import lax
from jaxinv_kernels.conv import (
    FORMS,
    conv_general_dilated,
    using,
)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


class Case(NamedTuple):
    """A convolution drawn by hypothesis."""

    lhs: tuple
    rhs: tuple
    strides: tuple
    padding: object
    kwargs: dict
    form: str | None


@st.composite
def cases(draw):
    ndim = draw(st.integers(1, 3))

    def per_axis(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(ndim))

    window = draw(st.sampled_from([(3,) * ndim, per_axis(1, 3)]))
    ones = (1,) * ndim
    strides = draw(st.sampled_from([ones, per_axis(1, 3)]))
    dilation = draw(st.sampled_from([ones, ones, per_axis(1, 3)]))
    rhs_dilation = draw(st.sampled_from([ones, per_axis(1, 2)]))
    sizes = per_axis(1, 6 if ndim < 3 else 3)
    groups, batch_groups = draw(
        st.sampled_from([(1, 1), (1, 1), (2, 1), (3, 1), (1, 2)])
    )
    padding = draw(st.sampled_from(["SAME", "SAME_LOWER", "VALID", None]))
    if padding is None or dilation != ones:
        # No more is cropped than there is.
        length = [(n - 1) * d + 1 for n, d in zip(sizes, dilation, strict=True)]
        low = [draw(st.integers(-min(2, n), 3)) for n in length]
        high = [
            draw(st.integers(-min(2, n + min(a, 0)), 3))
            for n, a in zip(length, low, strict=True)
        ]
        padding = tuple(zip(low, high, strict=True))
    incoming, outgoing = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    examples = draw(st.integers(1, 2)) * batch_groups
    letters = "HWD"[:ndim]
    numbers = draw(st.sampled_from(["named", "indices", "none"]))
    inputs, kernel, out = (
        "".join(draw(st.permutations(ends + letters))) for ends in ("NC", "IO", "NC")
    )
    if numbers == "none":
        inputs, kernel, out = "NC" + letters, "OI" + letters, "NC" + letters
    # The axes of strides and the like stand in the order of the kernel's.
    order = [c for c in kernel if c in letters]
    size = dict(zip(order, sizes, strict=True))
    size |= {"N": examples, "C": groups * incoming}
    taps = dict(zip(order, window, strict=True))
    taps |= {"I": incoming, "O": groups * batch_groups * outgoing}
    lhs, rhs = tuple(size[c] for c in inputs), tuple(taps[c] for c in kernel)
    given = {
        "named": (inputs, kernel, out),
        "indices": lax.conv_dimension_numbers(lhs, rhs, (inputs, kernel, out)),
        "none": None,
    }[numbers]
    kwargs = {
        "lhs_dilation": dilation,
        "rhs_dilation": rhs_dilation,
        "dimension_numbers": given,
        "feature_group_count": groups,
        "batch_group_count": batch_groups,
    }
    form = draw(st.sampled_from([None, *FORMS]))
    return Case(lhs, rhs, strides, padding, kwargs, form)


@given(cases())
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # every step of shrinking would compile two programs
)
def test_any_convolution_agrees_in_value_and_two_derivatives(case):
    # Hypothesis runs every example inside one call of the fixture.
    args, directions = draw(0, case.lhs, case.rhs), draw(1, case.lhs, case.rhs)

    def ours(x, k):
        with using(case.form):
            return conv_general_dilated(x, k, case.strides, case.padding, **case.kwargs)

    def truth(x, k):
        return lax.conv_general_dilated(x, k, case.strides, case.padding, **case.kwargs)

    found, expected = quick(
        lambda *a: [three_orders(f, a, directions) for f in (ours, truth)]
    )(*args)
    assert found[0].dtype == expected[0].dtype
    close(found, expected)
