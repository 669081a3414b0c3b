"""Which form a convolution takes, in which types, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conv_pairs import KINDS, NHWC, SAME, draw, primitives, quick
from jax import lax
from jaxinv_kernels.conv import (
    choose,
    conv_general_dilated,
    layout,
    using,
    winograd,
)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


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
