"""Convolution by matrix products agrees with XLA's in value and derivatives."""

import math

import jax
import pytest
from conv_pairs import (
    KINDS,
    NHWC,
    close,
    conv_pair,
    draw,
    kind_of_pair,
    primitives,
    quick,
    three_orders,
)
from jax import lax
from jaxinv_kernels.conv import (
    FORMS,
    conv_general_dilated,
    patches,
    using,
)

# Inputs, kernel, strides, padding, dilation of the kernel.
CONVS = [
    ((2, 6, 5, 3), (3, 3, 3, 4), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((1, 8, 7, 2), (5, 5, 2, 3), (2, 2), ((2, 2), (2, 2)), (1, 1)),
    ((2, 5, 5, 3), (1, 1, 3, 2), (1, 1), "VALID", (1, 1)),
    ((2, 5, 6, 3), (1, 1, 3, 2), (2, 2), "VALID", (1, 1)),
    ((1, 7, 9, 2), (3, 2, 2, 3), (2, 3), "SAME", (1, 1)),
    ((1, 9, 8, 2), (3, 3, 2, 2), (1, 2), ((2, 1), (0, 3)), (2, 1)),
    ((2, 9, 8, 2), (4, 4, 2, 3), (4, 4), "VALID", (1, 1)),
    ((1, 6, 6, 2), (3, 3, 2, 2), (1, 1), ((-1, 0), (0, -1)), (1, 1)),
    ((1, 4, 4, 2), (4, 4, 2, 5), (1, 1), "VALID", (1, 1)),
]


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("shape, kernel, strides, padding, dilation", CONVS)
def test_conv_agrees_in_value_and_two_derivatives(
    shape, kernel, strides, padding, dilation
):
    args, directions = draw(0, shape, kernel), draw(1, shape, kernel)
    ours, truth = conv_pair(strides, padding, dilation)
    found, expected = (
        quick(lambda *a, f=f: three_orders(f, a, directions))(*args)
        for f in (ours, truth)
    )
    close(found, expected)


@pytest.mark.parametrize(
    "kind, axes",
    [
        *(
            (k, a)
            for k in ("strided", "grouped")
            for a in [(0, None), (None, 0), (0, 0)]
        ),
        ("depthwise", (0, 0)),
        ("transposed", (0, 0)),
    ],
    ids=str,
)
def test_agrees_under_vmap(kind, axes):
    shape, kernel, ours, truth = kind_of_pair(kind)
    batched = [
        (3, *s) if axis == 0 else s
        for s, axis in zip((shape, kernel), axes, strict=True)
    ]
    args, directions = draw(0, *batched), draw(1, shape, kernel)
    found, expected = (
        quick(jax.vmap(lambda *a, f=f: three_orders(f, a, directions), axes))(*args)
        for f in (ours, truth)
    )
    close(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_two_derivatives_under_vmap_are_matrix_products(kind):
    shape, kernel, ours, truth = kind_of_pair(kind)
    args, directions = draw(0, (3, *shape), (3, *kernel)), draw(1, shape, kernel)

    def names(fn):
        orders = jax.vmap(lambda *a: three_orders(fn, a, directions))
        return set(primitives(jax.make_jaxpr(orders)(*args).jaxpr))

    assert "conv_general_dilated" in names(truth)
    found = names(ours)
    assert "dot_general" in found
    assert not found & {"conv_general_dilated", "gather", "scatter", "scatter-add"}


@pytest.mark.parametrize(
    "shape, kernel",
    [
        ((0, 4, 4, 2), (3, 3, 2, 3)),
        ((1, 4, 4, 0), (3, 3, 0, 3)),
        ((1, 0, 4, 2), (3, 3, 2, 3)),
        ((1, 4, 4, 2), (3, 3, 2, 0)),
        ((1, 1, 1, 2), (5, 5, 2, 3)),
    ],
)
@pytest.mark.parametrize("form", FORMS[:2])
def test_nothing_in_or_out(shape, kernel, form):
    args = draw(0, shape, kernel)
    padding = ((2, 1), (1, 1))
    with using(form):
        found, grads = jax.value_and_grad(
            lambda x, k: conv_general_dilated(
                x, k, (1, 1), padding, dimension_numbers=NHWC
            ).sum(),
            (0, 1),
        )(*args)
        out = conv_general_dilated(*args, (1, 1), padding, dimension_numbers=NHWC)
    assert found == 0
    assert all((g == 0).all() for g in grads)
    truth = lax.conv_general_dilated(*args, (1, 1), padding, dimension_numbers=NHWC)
    assert out.shape == truth.shape


def test_touching_and_single_windows_copy_nothing():
    for shape, kernel, strides in (
        ((2, 8, 8, 3), (4, 4, 3, 2), (4, 4)),
        ((2, 4, 4, 3), (4, 4, 3, 2), (1, 1)),
        ((2, 5, 4, 3), (4, 4, 3, 2), (7, 3)),
    ):
        x, k = draw(0, shape, kernel)
        jaxpr = jax.make_jaxpr(lambda x, k: patches.conv(x, k, strides, "VALID"))(x, k)
        assert "concatenate" not in set(primitives(jaxpr.jaxpr))
        close(
            patches.conv(x, k, strides, "VALID"),
            lax.conv_general_dilated(x, k, strides, "VALID", dimension_numbers=NHWC),
        )


def test_a_transposed_convolution_multiplies_no_zeros():
    x, k = draw(0, (2, 5, 5, 3), (4, 4, 3, 6))
    run = jax.jit(
        lambda x, k: conv_general_dilated(
            x, k, (1, 1), ((2, 2), (2, 2)), (2, 2), dimension_numbers=NHWC
        )
    )
    products = 2 * math.prod(x.shape) * 4 * 4 * 6
    flops = run.lower(x, k).compile().cost_analysis()["flops"]
    assert flops < 2 * products


def test_one_and_three_spatial_axes():
    for ndim, text in ((1, "NHC HIO"), (3, "NDHWC DHWIO")):
        inputs, kernel = text.split()
        numbers = (inputs, kernel, inputs)
        x, k = draw(0, (2, *[5] * ndim, 2), (*[2] * ndim, 2, 3))
        strides = (2,) * ndim
        found = patches.conv(x, k, strides, "SAME")
        close(
            found,
            lax.conv_general_dilated(x, k, strides, "SAME", dimension_numbers=numbers),
        )


def test_image_smaller_than_the_kernel_gives_nothing():
    ours, truth = conv_pair((1, 1), "VALID", (1, 1))
    x, k = draw(0, (1, 2, 5, 2), (3, 3, 2, 4))
    assert ours(x, k).shape == truth(x, k).shape == (1, 0, 3, 4)
