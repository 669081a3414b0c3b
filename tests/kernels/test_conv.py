"""Convolution by matrix products agrees with XLA's in value and derivatives."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from jax import lax
from jaxinv_kernels.conv import (
    FORMS,
    choose,
    conv_general_dilated,
    layout,
    patches,
    reference,
    using,
    winograd,
)

NHWC = ("NHWC", "HWIO", "NHWC")
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


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape)) for shape in shapes]


def close(guess, truth):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10),
        guess,
        truth,
    )


def three_orders(fn, args, directions):
    """Value, gradient, and the gradient of the gradient along directions."""

    def scalar(*args):
        return jnp.sum(jnp.sin(fn(*args)))

    which = tuple(range(len(args)))
    first = jax.grad(scalar, which)

    def along(*args):
        parts = zip(first(*args), directions, strict=True)
        return sum(jnp.vdot(g, d) for g, d in parts)

    return fn(*args), first(*args), jax.grad(along, which)(*args)


def quick(fn):
    """Compiled in less time: these run once."""
    return jax.jit(fn, compiler_options={"xla_backend_optimization_level": 0})


def conv_pair(strides, padding, dilation):
    kwargs = {"rhs_dilation": dilation, "dimension_numbers": NHWC}

    def ours(x, k):
        return conv_general_dilated(x, k, strides, padding, **kwargs)

    def truth(x, k):
        return reference.conv(x, k, strides, padding, **kwargs)

    return ours, truth


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


def primitives(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name
        for value in eqn.params.values():
            if hasattr(value, "jaxpr"):
                yield from primitives(value.jaxpr)


# Inputs, kernel, strides, padding and what else; each is done by another line of code.
NCHW = ("NCHW", "OIHW", "NCHW")
SAME = ((1, 1), (1, 1))
KINDS = {
    "plain": ((2, 6, 5, 3), (3, 3, 3, 4), (1, 1), SAME, {}),
    "strided": ((1, 8, 7, 2), (5, 5, 2, 3), (2, 2), ((2, 2), (2, 2)), {}),
    "one_by_one": ((1, 5, 6, 3), (1, 1, 3, 2), (2, 2), "VALID", {}),
    "dilated": ((1, 7, 6, 2), (3, 3, 2, 2), (1, 2), SAME, {"rhs_dilation": (2, 1)}),
    "grouped": (
        (2, 5, 4, 6),
        (3, 3, 3, 4),
        (2, 1),
        SAME,
        {"feature_group_count": 2},
    ),
    "depthwise": (
        (2, 5, 4, 3),
        (3, 3, 1, 6),
        (1, 2),
        SAME,
        {"feature_group_count": 3},
    ),
    "examples_grouped": (
        (4, 5, 4, 3),
        (3, 3, 3, 4),
        (1, 1),
        SAME,
        {"batch_group_count": 2},
    ),
    "transposed": (
        (2, 4, 3, 2),
        (3, 4, 2, 3),
        (1, 1),
        ((1, 2), (2, -1)),
        {"lhs_dilation": (2, 3)},
    ),
    "transposed_grouped": (
        (2, 4, 3, 4),
        (3, 3, 2, 4),
        (1, 1),
        ((1, 2), (2, 1)),
        {"lhs_dilation": (2, 2), "rhs_dilation": (1, 2), "feature_group_count": 2},
    ),
    "transposed_strided": (
        (1, 4, 3, 2),
        (3, 3, 2, 3),
        (2, 1),
        SAME,
        {"lhs_dilation": (3, 2)},
    ),
    "channels_first": (
        (2, 3, 6, 5),
        (4, 3, 3, 3),
        (1, 1),
        SAME,
        {"dimension_numbers": NCHW},
    ),
    "winograd": ((2, 6, 5, 3), (3, 3, 3, 4), (1, 1), SAME, {"form": "winograd"}),
}


def kind_of_pair(kind):
    shape, kernel, strides, padding, more = KINDS[kind]
    kwargs = {"dimension_numbers": NHWC} | more

    def ours(x, k):
        return conv_general_dilated(x, k, strides, padding, **kwargs)

    def truth(x, k):
        theirs = {name: v for name, v in kwargs.items() if name != "form"}
        return lax.conv_general_dilated(x, k, strides, padding, **theirs)

    return shape, kernel, ours, truth


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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("preferred", [None, "float32", "float64"])
@pytest.mark.parametrize("kind", ["grouped", "winograd"])
def test_types_and_precision_are_as_asked(dtype, preferred, kind):
    shape, kernel, strides, padding, more = KINDS[kind]
    x, k = (a.astype(dtype) for a in draw(0, shape, kernel))
    more = {"dimension_numbers": NHWC, "preferred_element_type": preferred} | more

    def loss(fn, **kwargs):
        def run(x, k):
            out = fn(x, k, strides, padding, precision="highest", **kwargs)
            return out.astype(float).sum(), out

        return quick(jax.grad(run, (0, 1), has_aux=True))(x, k)

    found = loss(conv_general_dilated, **more)
    more.pop("form", None)
    expected = loss(lax.conv_general_dilated, **more)
    error = 2**4 * jnp.finfo(dtype).eps
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        assert a.dtype == b.dtype
        size = float(jnp.abs(b).max())
        np.testing.assert_allclose(
            a.astype(float), b.astype(float), rtol=0, atol=error * size
        )


@pytest.mark.parametrize("dtype", ["int32", "complex64", "float8_e4m3fn"])
def test_other_types_are_left_to_lax(dtype):
    x, k = (a.astype(dtype) for a in draw(0, (1, 4, 4, 2), (3, 3, 2, 3)))
    found = conv_general_dilated(x, k, (1, 1), "VALID", dimension_numbers=NHWC)
    truth = lax.conv_general_dilated(x, k, (1, 1), "VALID", dimension_numbers=NHWC)
    assert found.dtype == truth.dtype
    assert (found == truth).all()
    with pytest.raises(ValueError, match=f"form is 'patches'.*not {dtype}"):
        conv_general_dilated(
            x, k, (1, 1), "VALID", dimension_numbers=NHWC, form="patches"
        )


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


def sizes_of(lhs, rhs, strides=(1, 1), groups=1):
    lhs, rhs = (jax.ShapeDtypeStruct(s, jnp.float32) for s in (lhs, rhs))
    return layout.geometry(lhs, rhs, strides, "SAME", None, None, groups)


def test_the_choice_goes_by_shape_type_and_platform(monkeypatch):
    wide = sizes_of((8, 16, 16, 64), (3, 3, 64, 64))
    assert jax.default_backend() == "cpu"
    assert choose(wide, jnp.float32) == "winograd"
    assert choose(wide._replace(strides=(2, 2)), jnp.float32) == "patches"
    assert choose(wide._replace(lhs_dilation=(2, 2)), jnp.float32) == "patches"
    assert choose(wide._replace(groups=2), jnp.float32) == "patches"
    assert choose(sizes_of((1, 8, 8, 3), (3, 3, 3, 8)), jnp.float32) == "patches"
    assert choose(wide, jnp.int32) == "lax"
    assert choose(wide, jnp.float32, jnp.complex64) == "lax"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choose(wide, jnp.float32) == "patches"


def names_of(**kwargs):
    x, k = draw(0, (1, 5, 5, 2), (3, 3, 2, 3))
    kwargs = {"dimension_numbers": NHWC} | kwargs

    def run(x, k):
        return conv_general_dilated(x, k, (1, 1), "SAME", **kwargs)

    return set(primitives(jax.make_jaxpr(run)(x, k).jaxpr))


def test_a_form_can_be_asked_for_by_call_or_by_trace():
    conv = "conv_general_dilated"
    assert conv not in names_of()
    assert conv in names_of(form="lax")
    with using("lax"):
        assert conv in names_of()
        assert conv not in names_of(form="patches")
        with using(None):
            assert conv not in names_of()
        assert conv in names_of()
    assert conv not in names_of()
    with pytest.raises(KeyError), using("lax"):
        raise KeyError
    assert conv not in names_of()


def test_a_form_asked_for_a_trace_gives_way_where_it_cannot(monkeypatch):
    calls = []
    conv = winograd.conv

    def spy(*args, **kwargs):
        calls.append(args)
        return conv(*args, **kwargs)

    monkeypatch.setattr(winograd, "conv", spy)
    with using("winograd"):
        names_of()
        assert len(calls) == 1
        names_of(rhs_dilation=(2, 2))
        names_of(form="patches")
    assert len(calls) == 1


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"form": "fft"}, "form is 'fft'; expected None or one of"),
        ({"form": "winograd", "rhs_dilation": (2, 1)}, r"rhs_dilation of 1.*\(2, 1\)"),
        ({"form": "winograd", "lhs_dilation": (1, 2)}, r"lhs_dilation of 1.*\(1, 2\)"),
        ({"form": "winograd", "window_strides": (2, 1)}, r"strides of 1.*\(2, 1\)"),
        ({"form": "winograd", "padding": ((1, -1), (0, 0))}, "padding of at least 0"),
        ({"form": "winograd", "feature_group_count": 2}, "a single group, not 2"),
        ({"window_strides": (0, 1)}, r"window_strides is \(0, 1\)"),
        ({"rhs_dilation": (1, 0)}, r"rhs_dilation is \(1, 0\)"),
        ({"padding": "FULL"}, "FULL"),
    ],
)
def test_what_cannot_be_done_is_refused(kwargs, message):
    groups = kwargs.get("feature_group_count", 1)
    x, k = draw(0, (2, 5, 5, 4), (3, 3, 4 // groups, 2))
    defaults = {"window_strides": (1, 1), "padding": SAME, "dimension_numbers": NHWC}
    with pytest.raises((ValueError, RuntimeError), match=message):
        conv_general_dilated(x, k, **(defaults | kwargs))


def test_winograd_needs_a_kernel_of_three_by_three():
    x, k = draw(0, (2, 5, 5, 4), (5, 5, 4, 2))
    with pytest.raises(ValueError, match=r"a 3 x 3 kernel, not \(5, 5\)"):
        conv_general_dilated(
            x, k, (1, 1), "SAME", dimension_numbers=NHWC, form="winograd"
        )
    with pytest.raises(ValueError, match="form is 'fft'"), using("fft"):
        pass


def test_xla_checks_the_shapes():
    x, k = draw(0, (2, 5, 5, 4), (3, 3, 3, 2))
    with pytest.raises(ValueError, match="feature dimension"):
        conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=NHWC)
    with pytest.raises(TypeError, match="same dtypes"):
        conv_general_dilated(x.astype("float32"), x, (1, 1), "SAME")


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
